#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/tensor.h"

namespace dither::cuda {

/// Values of an attention with 128 channels per head as FP8 products read them: transposed, for
/// tensor cores take codes only with the summed dimension, the keys, along a row, and with a scale
/// for every 64 keys of a head, so that whoever has 64 keys can write their block.
///
/// A block is 128 rows, channels, of 64 codes, swizzled by 64 bytes: what lies in shared memory.
/// Keys are in the order in which the scores' product leaves them to the threads that feed the next
/// one: code s of 16 is key 8 (s / 2 % 2) + 2 (s / 4) + s % 2.
struct ValueBlocks {
  std::uint8_t* codes = nullptr;  ///< [B, H, blocks, 128 * 64]
  float* scales = nullptr;        ///< [B, H, blocks, kValueScales]: log2 of the scale, 1 / scale
  std::int64_t blocks = 0;        ///< count_value_blocks(): those behind the keys are zeros
};

inline constexpr std::int64_t kValueBlockKeys = 64;
inline constexpr std::int64_t kValueBlockBytes = kValueBlockKeys * 128;
inline constexpr std::int64_t kValueScales = 4;  ///< the copy engine takes 16 bytes
/// The attention takes so many blocks at a time.
inline constexpr std::int64_t kValueBlocksOfTile = 3;

constexpr std::int64_t count_value_blocks(std::int64_t keys) {
  const std::int64_t tile = kValueBlockKeys * kValueBlocksOfTile;
  return (keys + tile - 1) / tile * kValueBlocksOfTile;
}

/// Whether tokens from `first` on, `count` of `all`, have blocks of their own.
constexpr bool has_value_blocks(std::int64_t first, std::int64_t count, std::int64_t all) {
  return first % kValueBlockKeys == 0 && (count % kValueBlockKeys == 0 || first + count == all);
}

/// Makes blocks of v, rows [B tokens, H 128] of bf16: reads each value and writes each code once.
struct BlockValuesArgs {
  RowView v;  ///< address and rows are multiples of 16 bytes
  std::int64_t batch = 0;
  std::int64_t heads = 0;
  std::int64_t first_token = 0;  ///< has_value_blocks()
  ValueBlocks to;
};
void launch_block_values(const BlockValuesArgs& args, cudaStream_t stream);

/// Zeros in the blocks behind `tokens`.
void launch_zero_blocks(const ValueBlocks& blocks, std::int64_t heads_of_samples,
                        std::int64_t tokens, cudaStream_t stream);

}  // namespace dither::cuda
