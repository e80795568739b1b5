#pragma once

#include <bit>
#include <cstdint>

namespace dither {

/// The upper half of a float32 (1 sign, 8 exponent, 7 mantissa bits). Storage only: arithmetic is
/// done in float32 and rounded once.
struct bf16 {
  std::uint16_t bits = 0;
};
static_assert(sizeof(bf16) == 2);

inline float to_float(bf16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
inline float to_float(float value) { return value; }

/// Round to nearest, ties to even; NaN stays a (quiet) NaN.
inline bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
    return {static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  }
  const std::uint32_t rounding = 0x7FFFU + ((bits >> 16) & 1U);
  return {static_cast<std::uint16_t>((bits + rounding) >> 16)};
}

/// A float32 rounded to the nearest bfloat16.
inline float round_to_bf16(float value) { return to_float(to_bf16(value)); }

}  // namespace dither
