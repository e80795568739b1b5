#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace dither {

/// E4M3FN (OCP 8-bit floating point, Micikevicius et al. 2022): 1 sign, 4 exponent (bias 7) and 3
/// mantissa bits; largest value 448, smallest normal 2^-6, subnormal step 2^-9; no infinity, NaN is
/// 0x7F and 0xFF.
inline constexpr float kE4M3Max = 448.0F;

/// float32 to E4M3 as PyTorch converts: round to nearest even; beyond 464 (the tie between 448 and
/// the absent 480), infinity and NaN become NaN with their sign; -0 stays -0.
constexpr std::uint8_t to_e4m3(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 24) & 0x80U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  constexpr std::uint32_t kLargestRounding = 0x43E80000U;  // 464
  if (magnitude > kLargestRounding) return static_cast<std::uint8_t>(sign | 0x7FU);
  constexpr std::uint32_t kSmallestNormal = 0x3C800000U;  // 2^-6
  if (magnitude < kSmallestNormal) {
    // 2^14 has 2^-9 as its last place, so the float addition itself rounds to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 16384.0F;
    return static_cast<std::uint8_t>(
        sign | (std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(16384.0F)));
  }
  const std::uint32_t rounded = magnitude + 0x7FFFFU + ((magnitude >> 20) & 1U);
  return static_cast<std::uint8_t>(sign | ((rounded - (120U << 23)) >> 20));  // 120: bias 127 - 7
}

/// The same after clamping to +-448; NaN stays NaN.
constexpr std::uint8_t to_e4m3_saturated(float value) {
  if (value > kE4M3Max) value = kE4M3Max;
  if (value < -kE4M3Max) value = -kE4M3Max;
  return to_e4m3(value);
}

/// Exact.
constexpr float e4m3_to_float(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80U) << 24;
  const std::uint32_t magnitude = code & 0x7FU;
  if (magnitude == 0x7FU) return std::bit_cast<float>(sign | 0x7FC00000U);
  if (magnitude < 8U) {  // subnormal: mantissa * 2^-9
    const float value = static_cast<float>(magnitude) * 0.001953125F;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
  }
  return std::bit_cast<float>(sign | ((magnitude << 20) + (120U << 23)));
}

/// All 256 values, for table look-ups.
inline constexpr std::array<float, 256> kE4M3Values = [] {
  std::array<float, 256> values{};
  for (unsigned code = 0; code < 256; ++code) {
    values[code] = e4m3_to_float(static_cast<std::uint8_t>(code));
  }
  return values;
}();

/// E2M1 (OCP MX): bit 3 is the sign, the rest one of 0, 0.5, 1, 1.5, 2, 3, 4, 6.
inline constexpr std::array<float, 16> kE2M1Values = {0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,
                                                      4.0F,  6.0F,  -0.0F, -0.5F, -1.0F, -1.5F,
                                                      -2.0F, -3.0F, -4.0F, -6.0F};

/// Round to nearest, ties to the even code; beyond 6 saturates. NaN becomes 6 with its sign.
constexpr std::uint8_t to_e2m1(float value) {
  const std::uint32_t sign = (std::bit_cast<std::uint32_t>(value) >> 28) & 8U;
  const float magnitude = value < 0 ? -value : value;
  // Midpoints between neighbours; a tie goes up exactly where the upper code is even.
  constexpr std::array<float, 7> kMidpoints = {0.25F, 0.75F, 1.25F, 1.75F, 2.5F, 3.5F, 5.0F};
  std::uint32_t code = 0;
  for (std::uint32_t upper = 1; upper < 8; ++upper) {
    const float midpoint = kMidpoints[upper - 1];
    const bool above = upper % 2 == 0 ? magnitude >= midpoint : magnitude > midpoint;
    if (above || magnitude != magnitude) code = upper;
  }
  return static_cast<std::uint8_t>(sign | code);
}

}  // namespace dither
