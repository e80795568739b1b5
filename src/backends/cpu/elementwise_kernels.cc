#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/elementwise_kernels.cc"
#include <hwy/foreach_target.h>
// foreach_target.h comes first; this file is included again for every instruction set.
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dither::cpu::HWY_NAMESPACE {
namespace {

template <class T>
void activate(const ActivateArgs& args, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) {
    const T* x = args.x.row<T>(row);
    const T* b = args.b.data != nullptr ? args.b.row<T>(row) : nullptr;
    T* y = args.y.row<T>(row);
    each_vector(args.x.cols, [&](std::int64_t i, auto part) HWY_ATTR {
      VF v = activation(args.activation, load(x + i, part));
      if (b != nullptr) v *= load(b + i, part);
      store(v, y + i, part);
    });
  }
}

void Activate(const ActivateArgs& args, std::int64_t begin, std::int64_t end) {
  if (args.dtype == DType::kBF16) return activate<bf16>(args, begin, end);
  activate<float>(args, begin, end);
}

template <class T>
void combine(const AxpbyArgs& args, std::int64_t begin, std::int64_t end) {
  const F32 d;
  const T* x = reinterpret_cast<const T*>(args.x) + begin;
  const T* other = args.other != nullptr ? reinterpret_cast<const T*>(args.other) + begin : nullptr;
  T* y = reinterpret_cast<T*>(args.y) + begin;
  const VF factor = hn::Set(d, args.factor);
  const VF other_factor = hn::Set(d, args.other_factor);
  const VF offset = hn::Set(d, args.offset);
  each_vector(end - begin, [&](std::int64_t i, auto part) HWY_ATTR {
    VF v = hn::MulAdd(load(x + i, part), factor, offset);
    if (other != nullptr) v = hn::MulAdd(load(other + i, part), other_factor, v);
    store(v, y + i, part);
  });
}

void Axpby(const AxpbyArgs& args, std::int64_t begin, std::int64_t end) {
  if (args.dtype == DType::kBF16) return combine<bf16>(args, begin, end);
  combine<float>(args, begin, end);
}

void Narrow(const float* from, bf16* to, std::int64_t count) {
  each_vector(count, [&](std::int64_t i, auto part)
                         HWY_ATTR { store(load(from + i, part), to + i, part); });
}

void Widen(const bf16* from, float* to, std::int64_t count) {
  each_vector(count, [&](std::int64_t i, auto part)
                         HWY_ATTR { store(load(from + i, part), to + i, part); });
}

}  // namespace
}  // namespace dither::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dither::cpu {

HWY_EXPORT(Activate);
HWY_EXPORT(Axpby);
HWY_EXPORT(Narrow);
HWY_EXPORT(Widen);

void activate_rows(const ActivateArgs& args, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(Activate)(args, begin, end);
}

void axpby(const AxpbyArgs& args, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(Axpby)(args, begin, end);
}

void convert(const float* from, bf16* to, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(Narrow)(from, to, count);
}

void convert(const bf16* from, float* to, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(Widen)(from, to, count);
}

}  // namespace dither::cpu
#endif  // HWY_ONCE
