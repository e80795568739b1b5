#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backends/cuda/kernels/norm_rope.h"
#include "backends/cuda/kernels/value_blocks.h"
#include "ops/types.h"
#include "tensor/tensor.h"

namespace dither::cuda {

/// x W^T + b whose result is never written: what comes of it is. Of W's rows, in this order,
///  - 3 H D are those of q, k and v, where H is not 0, D kProjectedHeadDim and q, k and v bf16 but
///    for q's and k's codes;
///  - 2 F are those of a gated layer: activation(a) * b.
/// Sums are float32 and rounded once, at the end.
struct ProjectionArgs : RotatedHeads {
  RowView x;                          ///< [M, K] of dtype
  const void* weight = nullptr;       ///< [N, K] of dtype, contiguous
  DType dtype = DType::kBF16;         ///< kBF16 or kF8E4M3
  std::int64_t n = 0;                 ///< 3 H D + 2 F
  float alpha = 1;                    ///< multiplies the product
  const float* row_scales = nullptr;  ///< [N], in place of alpha
  const void* bias = nullptr;         ///< [N] bf16, or null

  float* v_largest = nullptr;  ///< *v_largest = max(*v_largest, max |v|), or null
  ValueBlocks v_blocks;        ///< of out_tokens keys, in place of v, or null; every NaN is 0x7F

  std::int64_t gated = 0;  ///< F; 0: none
  ops::Activation activation = ops::Activation::kNone;
  RowView y;               ///< [M, F] bf16, or codes
  float y_reciprocal = 0;  ///< y as E4M3 codes of its bf16 values times this; 0: bf16
};

inline constexpr std::int64_t kProjectedHeadDim = 128;

/// Whether a product of so many rows keeps most of the device busy to its end: where it does not,
/// smaller tiles are faster.
bool projection_fills_device(std::int64_t rows, const ProjectionArgs& args);
/// Whether extents and addresses are such that the kernel can take them.
bool projection_fits(const ProjectionArgs& args);
/// Needs projection_fits().
void launch_projection(const ProjectionArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
