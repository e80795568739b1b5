#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "backends/cuda/cudnn_conv.h"
#include "ops/backend.h"
#include "ops/types.h"

namespace dither::cuda {

/// Convolutions through cuDNN: NHWC images, weights as [C_out, kh, kw, C_in]. Both channel counts
/// are padded with zeros to multiples of 8, which is what tensor cores read at a time.
class Conv2dKernels {
 public:
  Conv2dKernels(ops::Backend& backend, CudnnConv& conv, cudaStream_t stream)
      : backend_(backend), conv_(conv), stream_(stream) {}

  std::unique_ptr<ops::PreparedConv2d> prepare(const ops::Conv2dWeights& weights, DType dtype);
  /// Throws kInvalidArgument when another backend prepared the weights.
  void run(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
           const Tensor& y);

 private:
  Tensor zeros(const Shape& shape, DType dtype);
  Tensor padded_channels(const Tensor& x, std::int64_t channels);

  ops::Backend& backend_;
  CudnnConv& conv_;
  cudaStream_t stream_;
};

}  // namespace dither::cuda
