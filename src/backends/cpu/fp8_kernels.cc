#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/fp8_kernels.cc"
#include <hwy/foreach_target.h>
// foreach_target.h comes first; this file is included again for every instruction set.
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd-inl.h"
#include "tensor/float8.h"

HWY_BEFORE_NAMESPACE();
namespace dither::cpu::HWY_NAMESPACE {
namespace {

/// The value of to_e4m3_saturated(v), see tensor/float8.h for the two ways of rounding.
HWY_INLINE VF rounded_to_e4m3(VF v) {
  const F32 d;
  const hn::RebindToUnsigned<F32> du;
  const VF magnitude = hn::Abs(v);
  const auto bits = hn::BitCast(du, magnitude);
  const auto odd = hn::And(hn::ShiftRight<20>(bits), hn::Set(du, 1U));
  const VF normal = hn::BitCast(
      d, hn::And(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFFFU))), hn::Set(du, 0xFFF00000U)));
  const VF shift = hn::Set(d, 16384.0F);
  const VF subnormal = hn::Sub(hn::Add(magnitude, shift), shift);
  const VF finite = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 0x1p-6F)), subnormal, normal);
  const VF clamped = hn::Min(finite, hn::Set(d, kE4M3Max));
  return hn::IfThenElse(hn::IsNaN(v), v, hn::CopySign(clamped, v));
}

/// Codes are bfloat16 numbers already, and the product above has quieted a NaN: nothing to round.
HWY_INLINE void store_code(VF v, float* p, Whole /*all*/) { store(v, p, Whole{}); }
HWY_INLINE void store_code(VF v, bf16* p, Whole /*all*/) {
  const hn::RebindToUnsigned<F32> du;
  const hn::Rebind<std::uint16_t, F32> dh;
  const auto upper = hn::ShiftRight<16>(hn::BitCast(du, v));
  hn::StoreU(hn::DemoteTo(dh, hn::BitCast(hn::RebindToSigned<F32>(), upper)), dh,
             reinterpret_cast<std::uint16_t*>(p));
}
template <class T>
HWY_INLINE void store_code(VF v, T* p, Tail tail) {
  store(v, p, tail);
}

template <class From, class To>
void quantize(const QuantizeArgs& args, std::int64_t begin, std::int64_t end) {
  const VF reciprocal = hn::Set(F32(), args.reciprocal);
  for (std::int64_t row = begin; row < end; ++row) {
    const From* x = args.x.row<From>(row);
    To* codes = args.codes.row<To>(row);
    each_vector(args.x.cols, [&](std::int64_t i, auto part) HWY_ATTR {
      store_code(rounded_to_e4m3(hn::Mul(load(x + i, part), reciprocal)), codes + i, part);
    });
  }
}

void QuantizeRows(const QuantizeArgs& args, std::int64_t begin, std::int64_t end) {
  const bool wide = args.codes_dtype == DType::kF32;
  if (args.dtype == DType::kBF16) {
    return wide ? quantize<bf16, float>(args, begin, end) : quantize<bf16, bf16>(args, begin, end);
  }
  return wide ? quantize<float, float>(args, begin, end) : quantize<float, bf16>(args, begin, end);
}

/// results[i] = values(codes[i]), a vector of lanes D at a time; the last one is padded with zeros.
template <class D, class T, class Values>
HWY_INLINE void expand(D d, const std::uint8_t* codes, T* results, std::int64_t count,
                       const Values& values) {
  const hn::Rebind<std::uint8_t, D> d8;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(values(hn::PromoteTo(d, hn::LoadU(d8, codes + i))), d, results + i);
  }
  if (i >= count) return;
  const auto rest = static_cast<std::size_t>(count - i);
  HWY_ALIGN std::uint8_t padded[hn::MaxLanes(d)] = {};
  HWY_ALIGN T buffer[hn::MaxLanes(d)];
  std::memcpy(padded, codes + i, rest);
  hn::StoreU(values(hn::PromoteTo(d, hn::LoadU(d8, padded))), d, buffer);
  std::memcpy(results + i, buffer, rest * sizeof(T));
}

/// The bits of kE4M3Values[code] in T, uint16_t for bfloat16 or uint32_t for float32. Normal
/// numbers need their exponent and mantissa moved and the exponent's bias changed from 7 to 127;
/// the eight subnormal magnitudes come from `subnormal`.
template <class D, class V, class Subnormal>
HWY_INLINE V e4m3_bits(D d, V code, const Subnormal& subnormal) {
  using T = hn::TFromD<D>;
  constexpr int kShift = sizeof(T) == 2 ? 4 : 20;
  constexpr int kSign = sizeof(T) == 2 ? 8 : 24;
  const V magnitude = hn::And(code, hn::Set(d, T{0x7F}));
  const V sign = hn::ShiftLeft<kSign>(hn::AndNot(hn::Set(d, T{0x7F}), code));
  const V normal =
      hn::Add(hn::ShiftLeft<kShift>(magnitude), hn::Set(d, static_cast<T>(T{120} << (kShift + 3))));
  const V nan = hn::Set(d, static_cast<T>(T{0x7FC} << kShift));
  const V finite =
      hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, T{8})), subnormal(magnitude), normal);
  return hn::Or(hn::IfThenElse(hn::Eq(magnitude, hn::Set(d, T{0x7F})), nan, finite), sign);
}

void expand_to_f32(const std::uint8_t* codes, float* values, std::int64_t count) {
  const hn::RebindToUnsigned<F32> d;
  using V = hn::Vec<decltype(d)>;
  const auto subnormal = [&](V magnitude) HWY_ATTR {
    const auto integer = hn::BitCast(hn::RebindToSigned<F32>(), magnitude);
    return hn::BitCast(d, hn::Mul(hn::ConvertTo(F32(), integer), hn::Set(F32(), 0x1p-9F)));
  };
  expand(d, codes, reinterpret_cast<std::uint32_t*>(values), count,
         [&](V code) HWY_ATTR { return e4m3_bits(d, code, subnormal); });
}

#if HWY_TARGET == HWY_SCALAR
void expand_to_bf16(const std::uint8_t* codes, bf16* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) values[i] = to_bf16(kE4M3Values[codes[i]]);
}
#else
void expand_to_bf16(const std::uint8_t* codes, bf16* values, std::int64_t count) {
  // m * 2^-9 for m = 0..7 in bfloat16; a byte shuffle looks up two bytes per lane.
  alignas(16) constexpr std::uint16_t kSubnormals[8] = {0x0000, 0x3B00, 0x3B80, 0x3BC0,
                                                        0x3C00, 0x3C20, 0x3C40, 0x3C60};
  const hn::ScalableTag<std::uint16_t> d;
  using V = hn::Vec<decltype(d)>;
  const V table = hn::LoadDup128(d, kSubnormals);
  const auto subnormal = [&](V magnitude) HWY_ATTR {
    const V low = hn::Add(magnitude, magnitude);
    const V bytes = hn::Add(hn::Or(low, hn::ShiftLeft<8>(low)), hn::Set(d, std::uint16_t{0x100}));
    return hn::TableLookupBytes(table, bytes);
  };
  expand(d, codes, reinterpret_cast<std::uint16_t*>(values), count,
         [&](V code) HWY_ATTR { return e4m3_bits(d, code, subnormal); });
}
#endif

void Expand(const std::uint8_t* codes, std::byte* values, DType dtype, std::int64_t count) {
  if (dtype == DType::kBF16) return expand_to_bf16(codes, reinterpret_cast<bf16*>(values), count);
  expand_to_f32(codes, reinterpret_cast<float*>(values), count);
}

}  // namespace
}  // namespace dither::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dither::cpu {

HWY_EXPORT(QuantizeRows);
HWY_EXPORT(Expand);

void quantize_e4m3_rows(const QuantizeArgs& args, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(QuantizeRows)(args, begin, end);
}

void expand_e4m3(const std::uint8_t* codes, std::byte* values, DType dtype, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(Expand)(codes, values, dtype, count);
}

void narrow_e4m3(const std::byte* values, DType dtype, std::uint8_t* codes, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = dtype == DType::kBF16 ? to_float(reinterpret_cast<const bf16*>(values)[i])
                                              : reinterpret_cast<const float*>(values)[i];
    codes[i] = to_e4m3(value);
  }
}

}  // namespace dither::cpu
#endif  // HWY_ONCE
