#include "schedulers/box_muller.h"

#include <bit>
#include <cmath>

// Compiled with -ffp-contract=off (see CMakeLists.txt): which products are fused decides the last
// bit, so each fused one is written as std::fma and no other may be.

namespace dither::schedulers {
namespace {

constexpr std::ptrdiff_t kPairs = 8;  // per group of 16 values

/// ln(x) for normal x > 0: Cephes logf. x = m 2^e with m in [sqrt(1/2), sqrt(2)), then
/// ln(x) = e ln 2 + ln(m), ln 2 split in two so that e ln2_high is exact.
[[gnu::always_inline]] inline float cephes_log(float x) {
  constexpr float kSqrtHalf = 0.707106781186547524F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const float mantissa = std::bit_cast<float>((bits & 0x007FFFFFU) | 0x3F000000U);  // [1/2, 1)
  const bool small = mantissa < kSqrtHalf;
  const float exponent =
      static_cast<float>(static_cast<int32_t>(bits >> 23) - 126) - (small ? 1.0F : 0.0F);
  const float m = (mantissa - 1.0F) + (small ? mantissa : 0.0F);
  const float m2 = m * m;
  float y = 7.0376836292e-2F;
  y = std::fma(y, m, -1.1514610310e-1F);
  y = std::fma(y, m, 1.1676998740e-1F);
  y = std::fma(y, m, -1.2420140846e-1F);
  y = std::fma(y, m, 1.4249322787e-1F);
  y = std::fma(y, m, -1.6668057665e-1F);
  y = std::fma(y, m, 2.0000714765e-1F);
  y = std::fma(y, m, -2.4999993993e-1F);
  y = std::fma(y, m, 3.3333331174e-1F);
  y = y * m;
  y = std::fma(y, m2, exponent * kLn2Low);
  y = std::fma(m2, -0.5F, y);
  return std::fma(exponent, kLn2High, m + y);
}

struct SinCos {
  float sin;
  float cos;
};

/// sin and cos of x in [0, 8192): Cephes sinf and cosf. x is reduced by a multiple j of pi/4, j
/// even, with pi/4 in three parts; the octant chooses polynomial and sign.
[[gnu::always_inline]] inline SinCos cephes_sincos(float x) {
  constexpr float kFourOverPi = 1.27323954473516F;
  const uint32_t j = (static_cast<uint32_t>(static_cast<int32_t>(x * kFourOverPi)) + 1U) & ~1U;
  const float multiple = static_cast<float>(static_cast<int32_t>(j));
  float r = std::fma(multiple, -0.78515625F, x);
  r = std::fma(multiple, -2.4187564849853515625e-4F, r);
  r = std::fma(multiple, -3.77489497744594108e-8F, r);
  const float r2 = r * r;

  float even = 2.443315711809948e-5F;
  even = std::fma(even, r2, -1.388731625493765e-3F);
  even = std::fma(even, r2, 4.166664568298827e-2F);
  even = even * r2;
  even = std::fma(even, r2, r2 * -0.5F) + 1.0F;

  float odd = -1.9515295891e-4F;
  odd = std::fma(odd, r2, 8.3321608736e-3F);
  odd = std::fma(odd, r2, -1.6666654611e-1F);
  odd = std::fma(odd * r2, r, r);

  const bool swap = (j & 2U) != 0;
  const uint32_t sin_sign = (j & 4U) << 29;
  const uint32_t cos_sign = (~(j - 2U) & 4U) << 29;
  return {std::bit_cast<float>(std::bit_cast<uint32_t>(swap ? even : odd) ^ sin_sign),
          std::bit_cast<float>(std::bit_cast<uint32_t>(swap ? odd : even) ^ cos_sign)};
}

[[gnu::always_inline]] inline void transform(float* values, int64_t groups) {
  constexpr float kTwoPi = 6.283185307179586F;
  for (int64_t group = 0; group < groups; ++group, values += 2 * kPairs) {
    for (std::ptrdiff_t j = 0; j < kPairs; ++j) {
      const float radius = std::sqrt(-2.0F * cephes_log(1.0F - values[j]));
      const auto [sin, cos] = cephes_sincos(kTwoPi * values[j + kPairs]);
      // + 0 is PyTorch's mean: it turns -0 into 0.
      values[j] = radius * cos + 0.0F;
      values[j + kPairs] = radius * sin + 0.0F;
    }
  }
}

#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] void transform_avx2(float* values, int64_t groups) {
  transform(values, groups);
}
#endif

}  // namespace

void box_muller_groups_of_16(float* values, int64_t groups) {
#if defined(__x86_64__)
  // Without the instruction std::fma is a function call: the same values, but slowly.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return transform_avx2(values, groups);
  }
#endif
  transform(values, groups);
}

}  // namespace dither::schedulers
