#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/types.h"
#include "tensor/tensor.h"

namespace dither::cuda {

/// y = norm(x) * (scale_offset + scale) + shift per row. Statistics in float32, the variance from a
/// second pass over registers. Up to 8192 columns (4096 of f32) each row is read and written once.
struct NormArgs {
  RowView x;  ///< rows of dtype
  RowView y;  ///< of dtype, or E4M3 codes; may be x
  DType dtype = DType::kF32;
  float eps = 0;
  DType scale_dtype = DType::kF32;     ///< of scale and shift: dtype or kF32
  const void* scale = nullptr;         ///< [cols] per sample; null: y = norm(x)
  const void* shift = nullptr;         ///< likewise; null: 0
  std::int64_t modulation_stride = 0;  ///< elements between samples' rows of scale and shift
  float scale_offset = 0;
  std::int64_t rows_per_sample = 1;
  /// Not 0: y = e4m3_saturated(result rounded to dtype * e4m3_reciprocal).
  float e4m3_reciprocal = 0;
};
/// norm(x) = (x - mean) / sqrt(var + eps).
void launch_layer_norm(const NormArgs& args, cudaStream_t stream);
/// norm(x) = x / sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019).
void launch_rms_norm(const NormArgs& args, cudaStream_t stream);

/// y = residual + gate * activation(x), all but the gate of dtype. Reads x and residual once,
/// writes y once.
struct GatedResidualArgs {
  RowView x;
  RowView residual;  ///< data null: 0
  RowView y;         ///< may be x or residual
  DType dtype = DType::kF32;
  DType gate_dtype = DType::kF32;  ///< dtype or kF32
  const void* gate = nullptr;      ///< [cols] per sample; null: 1
  std::int64_t gate_stride = 0;    ///< elements between samples' gates
  std::int64_t rows_per_sample = 1;
  ops::Activation activation = ops::Activation::kNone;
};
void launch_gated_residual(const GatedResidualArgs& args, cudaStream_t stream);

/// Both in one pass: the sum is rounded, stored in y and normalised as `norm` says, whose x is not
/// looked at. What two launches would give, bit for bit.
void launch_gated_residual_norm(const GatedResidualArgs& args, const NormArgs& norm,
                                cudaStream_t stream);

}  // namespace dither::cuda
