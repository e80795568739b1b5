#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/tensor.h"

namespace dither::cuda {

/// Every pixel becomes 2 x 2 pixels: x [samples, height, width, channels] -> y [samples, 2 height,
/// 2 width, channels], both contiguous, of kF32 or kBF16. Reads each element once, writes four.
struct UpsampleArgs {
  const void* x = nullptr;
  void* y = nullptr;
  DType dtype = DType::kF32;
  std::int64_t samples = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t channels = 0;
};
void launch_upsample_nearest2x(const UpsampleArgs& args, cudaStream_t stream);

/// Zeros in columns [first, cols) of every row, of kF32 or kBF16; 16 bytes at a time where they are
/// aligned.
struct ClearColumnsArgs {
  RowView rows;
  DType dtype = DType::kF32;
  std::int64_t first = 0;
};
void launch_clear_columns(const ClearColumnsArgs& args, cudaStream_t stream);

/// y = round(255 clamp(x / 2 + 1/2, 0, 1)), ties to even, NaN 0: `count` elements, one after the
/// other. Reads each once.
struct ToPixelsArgs {
  const void* x = nullptr;
  std::uint8_t* y = nullptr;
  DType dtype = DType::kF32;
  std::int64_t count = 0;
};
void launch_to_pixels(const ToPixelsArgs& args, cudaStream_t stream);

/// y[i] = table[ids[i]]: rows of `width` elements of kF32 or kBF16, table and y contiguous. The ids
/// were checked by the host.
struct EmbeddingArgs {
  const void* table = nullptr;
  const std::int32_t* ids = nullptr;
  void* y = nullptr;
  DType dtype = DType::kF32;
  std::int64_t count = 0;
  std::int64_t width = 0;
};
void launch_embedding(const EmbeddingArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
