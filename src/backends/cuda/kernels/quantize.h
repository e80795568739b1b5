#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/tensor.h"

namespace dither::cuda {

/// codes[r][c] = to_e4m3_saturated(x[r][c] * reciprocal); rows of any stride, x of dtype.
struct QuantizeArgs {
  RowView x;
  RowView codes;
  DType dtype = DType::kF32;
  float reciprocal = 1;
  const float* device_reciprocal = nullptr;  ///< in place of reciprocal, in device memory
};
void launch_quantize_e4m3(const QuantizeArgs& args, cudaStream_t stream);

/// values[i] = value of codes[i] * scale, rounded to dtype; contiguous.
struct ExpandArgs {
  const std::uint8_t* codes = nullptr;
  void* values = nullptr;
  DType dtype = DType::kF32;
  std::int64_t count = 0;
  float scale = 1;
  const float* device_scale = nullptr;  ///< in place of scale, in device memory
};
void launch_expand_e4m3(const ExpandArgs& args, cudaStream_t stream);

/// values[r][c] = value of codes[r][c] * row_scales[r], rounded to dtype; contiguous [rows, cols].
struct ExpandRowsArgs {
  const std::uint8_t* codes = nullptr;
  void* values = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const float* row_scales = nullptr;  ///< [rows], device
};
void launch_expand_e4m3_rows(const ExpandRowsArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
