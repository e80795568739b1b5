// Vector loads and stores of float32 and bfloat16 rows as float32 lanes. Per-target header in
// Highway's manner: included once for every instruction set a kernel file is compiled for.
#if defined(DITHER_BACKENDS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DITHER_BACKENDS_CPU_SIMD_INL_H_
#undef DITHER_BACKENDS_CPU_SIMD_INL_H_
#else
#define DITHER_BACKENDS_CPU_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>
// Highway's exp is accurate to one unit in the last place.
#include <hwy/contrib/math/math-inl.h>

#include "ops/types.h"
#include "tensor/bfloat16.h"

HWY_BEFORE_NAMESPACE();
namespace dither::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using F32 = hn::ScalableTag<float>;
using VF = hn::Vec<F32>;

/// A whole vector, or the first `count` lanes of one: a row's tail is moved through a buffer, so
/// that nothing outside the row is touched.
struct Whole {};
struct Tail {
  std::size_t count;
};

/// f(i, Whole) for every full vector of `count` elements, then f(i, Tail) for what remains.
template <class F>
HWY_INLINE void each_vector(std::int64_t count, const F& f) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(F32()));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) f(i, Whole{});
  if (i < count) f(i, Tail{static_cast<std::size_t>(count - i)});
}

HWY_INLINE VF load(const float* p, Whole /*all*/) { return hn::LoadU(F32(), p); }
HWY_INLINE VF load(const bf16* p, Whole /*all*/) {
  const hn::RebindToUnsigned<F32> du;
  const hn::Rebind<std::uint16_t, F32> dh;
  const auto half = hn::LoadU(dh, reinterpret_cast<const std::uint16_t*>(p));
  return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(du, half)));
}
/// Lanes beyond the tail are zero.
template <class T>
HWY_INLINE VF load(const T* p, Tail tail) {
  HWY_ALIGN T buffer[hn::MaxLanes(F32())] = {};
  std::memcpy(buffer, p, tail.count * sizeof(T));
  return load(buffer, Whole{});
}

HWY_INLINE void store(VF v, float* p, Whole /*all*/) { hn::StoreU(v, F32(), p); }
/// Round to nearest even; NaN stays NaN. As tensor/bfloat16.h.
HWY_INLINE void store(VF v, bf16* p, Whole /*all*/) {
  const hn::RebindToUnsigned<F32> du;
  const hn::RebindToSigned<F32> di;
  const hn::Rebind<std::uint16_t, F32> dh;
  const auto bits = hn::BitCast(du, v);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(du, 1U));
  const auto rounded = hn::ShiftRight<16>(bits + hn::Set(du, 0x7FFFU) + odd);
  const auto quiet = hn::Or(upper, hn::Set(du, 0x40U));
  const auto result = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
  hn::StoreU(hn::DemoteTo(dh, hn::BitCast(di, result)), dh, reinterpret_cast<std::uint16_t*>(p));
}
template <class T>
HWY_INLINE void store(VF v, T* p, Tail tail) {
  HWY_ALIGN T buffer[hn::MaxLanes(F32())];
  store(v, buffer, Whole{});
  std::memcpy(p, buffer, tail.count * sizeof(T));
}

HWY_INLINE float sum_of_lanes(VF v) { return hn::GetLane(hn::SumOfLanes(F32(), v)); }
HWY_INLINE float max_of_lanes(VF v) { return hn::GetLane(hn::MaxOfLanes(F32(), v)); }

/// x * sigmoid(a). The argument of exp is capped where the result has long vanished.
HWY_INLINE VF times_sigmoid(VF x, VF a) {
  const F32 d;
  const VF e = hn::Exp(d, hn::Min(hn::Neg(a), hn::Set(d, 88.0F)));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0F), e));
}

/// ops::Activation, all of them as x * sigmoid(a): (1 + tanh(u)) / 2 is sigmoid(2 u).
HWY_INLINE VF activation(ops::Activation kind, VF x) {
  const F32 d;
  switch (kind) {
    case ops::Activation::kNone:
      break;
    case ops::Activation::kSilu:
      return times_sigmoid(x, x);
    case ops::Activation::kQuickGelu:
      return times_sigmoid(x, hn::Mul(x, hn::Set(d, 1.702F)));
    case ops::Activation::kGeluTanh: {
      // 2 sqrt(2 / pi) x (1 + 0.044715 x^2)
      const VF cubic = hn::MulAdd(hn::Set(d, 0.044715F), hn::Mul(x, x), hn::Set(d, 1.0F));
      return times_sigmoid(x, hn::Mul(hn::Mul(x, hn::Set(d, 1.59576912F)), cubic));
    }
  }
  return x;
}

}  // namespace dither::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
