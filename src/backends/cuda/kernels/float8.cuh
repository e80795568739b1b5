#pragma once

#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace dither::cuda {

/// to_e4m3_saturated() of tensor/float8.h. The hardware's conversion rounds to nearest even and
/// saturates at 448 as that does; it turns every NaN into 0x7F, where the host keeps the sign.
__device__ inline std::uint8_t e4m3_saturated(float value) {
  const auto code =
      static_cast<std::uint8_t>(__nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3));
  const bool nan = value != value;
  return nan ? static_cast<std::uint8_t>((__float_as_uint(value) >> 24 & 0x80U) | 0x7FU) : code;
}

/// Exact.
__device__ inline float e4m3_to_f32(std::uint8_t code) {
  const auto magnitude = static_cast<std::uint32_t>(code & 0x7FU);
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80U) << 24;
  if (magnitude == 0x7FU) return __uint_as_float(sign | 0x7FC00000U);
  const float subnormal = static_cast<float>(magnitude) * 0.001953125F;
  const float value =
      magnitude < 8U ? subnormal : __uint_as_float((magnitude << 20) + (120U << 23));
  return __uint_as_float(__float_as_uint(value) | sign);
}

/// The codes of two values, the first one lower; every NaN is 0x7F.
__device__ inline std::uint32_t e4m3_pair(float first, float second) {
  return __nv_cvt_float2_to_fp8x2(make_float2(first, second), __NV_SATFINITE, __NV_E4M3);
}

/// V codes, in one access.
template <int V>
__device__ inline void store_codes(const float (&values)[V], float reciprocal, std::uint8_t* to) {
  if constexpr (V == 1) {
    to[0] = e4m3_saturated(values[0] * reciprocal);
  } else {
    static_assert(V == 4 || V == 8);
    std::uint32_t words[V / 4] = {};
    bool nan = false;
#pragma unroll
    for (int i = 0; i < V; i += 2) {
      const float2 pair = make_float2(values[i] * reciprocal, values[i + 1] * reciprocal);
      nan = nan || pair.x != pair.x || pair.y != pair.y;
      words[i / 4] |= e4m3_pair(pair.x, pair.y) << (8 * (i % 4));
    }
    if (nan) {  // rare: with their signs
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (i % 4 == 0) words[i / 4] = 0;
        words[i / 4] |= static_cast<std::uint32_t>(e4m3_saturated(values[i] * reciprocal))
                        << (8 * (i % 4));
      }
    }
    if constexpr (V == 8) {
      *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[1]);
    } else {
      *reinterpret_cast<std::uint32_t*>(to) = words[0];
    }
  }
}

}  // namespace dither::cuda
