#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dither::cuda {

/// y = conv(x, w) + bias over NHWC images, 3 x 3, stride 1, zeros around the image, to at most
/// 8 channels of bf16: what a decoder ends with. Such a convolution has so few products that memory
/// bounds it, if x is read once; a kernel made for many channels takes three times as long. Sums in
/// float32, in the order of channels, then of columns and rows of the kernel, rounded once.
struct NarrowConvArgs {
  const void* x = nullptr;       ///< [samples, height, width, c_in] bf16, 16-byte aligned
  const void* weight = nullptr;  ///< [8, 3, 3, c_in] bf16, 16-byte aligned
  const void* bias = nullptr;    ///< [8] bf16, or null
  void* y = nullptr;             ///< [samples, out_height, out_width, c_out] bf16
  std::int64_t samples = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t c_in = 0;
  std::int64_t c_out = 0;
  int top = 0;  ///< lines of zeros
  int left = 0;
  int bottom = 0;
  int right = 0;

  std::int64_t out_height() const { return height + top + bottom - 2; }
  std::int64_t out_width() const { return width + left + right - 2; }
};

/// Multiples of 64 channels up to 256 become up to 8.
bool narrow_conv_takes(std::int64_t c_in, std::int64_t c_out);

/// Throws kUnsupported for other channels.
void launch_narrow_conv(const NarrowConvArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
