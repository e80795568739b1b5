#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/tensor.h"

namespace dither::cuda {

/// Heads of one stream's tokens, and where they go. q and k are divided by their root mean square
/// and multiplied by their norm's weight, then pairs of channels (2i, 2i+1) are rotated:
///   y_{2i} = x_{2i} cos_i - x_{2i+1} sin_i,  y_{2i+1} = x_{2i+1} cos_i + x_{2i} sin_i.
struct RotatedHeads {
  std::int64_t heads = 0;        ///< H
  std::int64_t head_dim = 0;     ///< D, even
  const void* q_norm = nullptr;  ///< [D] of the activations' dtype
  const void* k_norm = nullptr;
  const float* cos = nullptr;  ///< [tokens, D/2] of this stream
  const float* sin = nullptr;
  float eps = 0;
  std::int64_t tokens = 0;      ///< of this stream, per sample: the row of token t of sample b is
  std::int64_t out_tokens = 0;  ///< b out_tokens + first_token + t
  std::int64_t first_token = 0;
  RowView q, k, v;     ///< results, rows [B out_tokens, H D]
  bool codes = false;  ///< q and k are E4M3 codes of values rounded to the activations' dtype
};

/// One stream of ops::norm_rope_heads, each head by itself or all heads of a token together. Reads
/// and writes q and k once (and v where it moves); across heads up to 8192 channels (4096 of f32),
/// beyond them reads twice. q and k may be qkv's own columns; v.data null: v stays where it is; of
/// codes it is codes too.
struct NormRopeArgs : RotatedHeads {
  RowView qkv;  ///< [B tokens, 3 H D], columns [q | k | v]
  DType dtype = DType::kF32;
  bool across_heads = false;            ///< q_norm and k_norm are [H D]
  const float* v_reciprocal = nullptr;  ///< in device memory: multiplies v before it becomes codes
};
void launch_norm_rope(const NormRopeArgs& args, cudaStream_t stream);

/// *largest = max(*largest, max |x|) over rows of dtype; NaN does not count. Any order gives the
/// same bits. Reads x once.
void launch_largest_magnitude(const RowView& x, DType dtype, float* largest, cudaStream_t stream);

/// Where AttentionOperands::v_scale has the one factor of codes of v that lie as q's do, and where
/// its reciprocal: cuDNN wants scalars aligned.
inline constexpr int kScaleElements = 8;
inline constexpr int kReciprocalElement = 4;

/// Of the largest magnitude m of a tensor: *scale = m / 448, *reciprocal = 448 / m; 1 and 1 for m =
/// 0.
void launch_e4m3_scales(const float* largest, float* scale, float* reciprocal, cudaStream_t stream);

}  // namespace dither::cuda
