#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace dither::cuda {

/// to[...] = from[...] for two strided tensors of one shape. Equal dtypes are copied bit for bit;
/// kF32, kBF16, kF16 and kF8E4M3 are converted to each other as the host converts (tensor/*.h: to
/// nearest even, E4M3 without saturation). Throws kUnsupported for other pairs.
struct CopyArgs {
  const void* from = nullptr;
  void* to = nullptr;
  DType from_dtype = DType::kF32;
  DType to_dtype = DType::kF32;
  int rank = 0;
  std::int64_t shape[8] = {};
  std::int64_t from_strides[8] = {};  ///< in elements
  std::int64_t to_strides[8] = {};
};
void launch_copy(const CopyArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
