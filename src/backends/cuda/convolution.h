#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "backends/cuda/cudnn_conv.h"
#include "ops/backend.h"
#include "ops/types.h"

namespace dither::cuda {

/// Convolutions through cuDNN, to a handful of channels our own (kernels/narrow_conv.h): NHWC
/// images and NDHWC videos, weights as [C_out, (kt,) kh, kw, C_in]. Both channel counts are padded
/// with zeros to multiples of 8, which is what tensor cores read at a time, and a video's to
/// row_channels(). Where cuDNN has no kernel for a video, frames become channels of an image: kt
/// times the input is written and read once more.
class ConvolutionKernels {
 public:
  ConvolutionKernels(ops::Backend& backend, CudnnConv& conv, cudaStream_t stream)
      : backend_(backend), conv_(conv), stream_(stream) {}

  /// Channels that a video's pixel has room for in the fastest kernel. cuDNN's Hopper kernels read
  /// 64 channels at a time: of 96 a convolution takes 3.22 ms on an H100, of 128 with zeros in a
  /// third more products 1.84 ms (4 frames of 832 x 480, 3 x 3 x 3).
  static std::int64_t row_channels(std::int64_t channels, DType dtype);

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
  /// x with zeros behind its channels.
  Tensor padded_channels(const Tensor& x, std::int64_t channels);
  /// x of `used` channels and zeros behind them, in x itself where it has the room.
  Tensor with_zeros(const Tensor& x, std::int64_t used);
  Tensor padded_bias(const Tensor& host, std::int64_t channels, DType dtype);
  /// Weights of the four phases of a convolution that upsamples.
  void fold_upsampling(const ops::Conv2dWeights& weights, DType dtype, DeviceConv2d& conv);
  void run_narrow(const ConvGeometry& geometry, const Tensor& wide, const DeviceConv2d& conv,
                  const Tensor& y);
  /// The phases, then y made of them; `geometry` is that of the small image.
  void run_phases(ConvGeometry geometry, const Tensor& wide, const DeviceConv2d& conv,
                  const Tensor& residual, const Tensor& y);
  /// As channels of each of the convolution's results, all frames that it sees.
  Tensor frames_as_channels(const Tensor& wide, const DeviceConv3d& conv, std::int64_t results);
  void run(const ConvGeometry& geometry, const Tensor& wide, const Tensor& weight,
           const Tensor& bias, const Tensor& residual, const Tensor& y);

  ops::Backend& backend_;
  CudnnConv& conv_;
  cudaStream_t stream_;
};

}  // namespace dither::cuda
