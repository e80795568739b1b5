#pragma once

#include <cstdint>

namespace dither::cuda {

/// Magnitudes below this, and blocks of zeros, have this one's scale: its reciprocal is still far
/// from infinite.
inline constexpr float kSmallestValue = 0x1p-60F;

/// What a block whose largest magnitude is `largest` has in ValueBlocks::scales. Values are
/// multiplied by y.
__device__ inline float4 value_scales(float largest) {
  const float scale = fmaxf(largest, kSmallestValue) / 448.0F;
  return make_float4(log2f(scale), 1.0F / scale, 0.0F, 0.0F);
}

/// Where in a block the 16 codes of keys 16 `chunk` and on are, of a channel.
__device__ inline int value_offset(int channel, int chunk) {
  return channel * 64 + ((chunk ^ (channel / 2 % 4)) * 16);
}

}  // namespace dither::cuda
