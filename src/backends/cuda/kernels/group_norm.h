#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "ops/types.h"
#include "tensor/dtype.h"

namespace dither::cuda {

/// y = activation((x - mean) / sqrt(var + eps) * weight + bias) over NHWC images (Wu & He 2018);
/// mean and var of a sample's group of channels. The image is cut into parts by its size alone, and
/// their moments are merged in a fixed order. Reads x twice, writes y once; y may be x.
struct GroupNormArgs {
  const void* x = nullptr;  ///< [samples, pixels, channels] of dtype, contiguous
  void* y = nullptr;
  DType dtype = DType::kF32;
  std::int64_t samples = 0;
  std::int64_t pixels = 0;
  std::int64_t channels = 0;
  int groups = 0;
  const void* weight = nullptr;  ///< [channels] of dtype
  const void* bias = nullptr;
  float eps = 0;
  ops::Activation activation = ops::Activation::kNone;
  float* workspace = nullptr;  ///< group_norm_workspace_floats() of them
};
std::size_t group_norm_workspace_floats(std::int64_t samples, std::int64_t pixels, int groups);

/// Throws kUnsupported beyond 4096 channels (512 where rows are not multiples of 16 bytes).
void launch_group_norm(const GroupNormArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
