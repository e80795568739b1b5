#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "backends/cuda/cudnn_conv.h"
#include "ops/backend.h"
#include "ops/types.h"

namespace dither::cuda {

/// Convolutions through cuDNN: NHWC images and NDHWC videos, weights as [C_out, (kt,) kh, kw,
/// C_in]. Both channel counts are padded with zeros to multiples of 8, which is what tensor cores
/// read at a time. Where cuDNN has no kernel for a video, frames become channels of an image: kt
/// times the input is written and read once more.
class ConvolutionKernels {
 public:
  ConvolutionKernels(ops::Backend& backend, CudnnConv& conv, cudaStream_t stream)
      : backend_(backend), conv_(conv), stream_(stream) {}

  std::unique_ptr<ops::PreparedConv2d> prepare(const ops::Conv2dWeights& weights, DType dtype);
  std::unique_ptr<ops::PreparedConv3d> prepare(const ops::Conv3dWeights& weights, DType dtype);
  /// Throws kInvalidArgument when another backend prepared the weights.
  void run(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
           const Tensor& y);
  void run(const Tensor& x, const ops::PreparedConv3d& weights, const Tensor& residual,
           const Tensor& y);

 private:
  struct DeviceConv2d;
  struct DeviceConv3d;

  Tensor zeros(const Shape& shape, DType dtype);
  Tensor padded_channels(const Tensor& x);
  Tensor padded_bias(const Tensor& host, std::int64_t channels, DType dtype);
  /// As channels of each of the convolution's results, all frames that it sees.
  Tensor frames_as_channels(const Tensor& wide, const DeviceConv3d& conv, std::int64_t results);
  void run(const ConvGeometry& geometry, const Tensor& wide, const Tensor& weight,
           const Tensor& bias, const Tensor& residual, const Tensor& y);

  ops::Backend& backend_;
  CudnnConv& conv_;
  cudaStream_t stream_;
};

}  // namespace dither::cuda
