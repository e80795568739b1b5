#pragma once

#include <cuda_runtime_api.h>

#include "ops/types.h"
#include "tensor/tensor.h"

namespace dither::cuda {

/// y = activation(x / max(|x|, 1e-12) * sqrt(cols) * weight) per row, |x| the Euclidean norm, in
/// float32. Rows are a video's pixels: many and short, so that up to 32 threads share one and a row
/// of up to 2048 columns (1024 of f32), 16 bytes aligned, is read and written once.
struct ChannelNormArgs {
  RowView x;
  RowView y;  ///< may be x
  DType dtype = DType::kF32;
  const void* weight = nullptr;  ///< [cols] of dtype
  ops::Activation activation = ops::Activation::kNone;
};
void launch_channel_norm(const ChannelNormArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
