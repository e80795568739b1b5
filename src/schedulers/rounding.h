#pragma once

#include <bit>
#include <cstdint>

namespace dither::schedulers {

/// The bfloat16 nearest to a finite value, ties to even, as a float.
[[gnu::always_inline]] inline float round_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U;
  return std::bit_cast<float>(rounded);
}

}  // namespace dither::schedulers
