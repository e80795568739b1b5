#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>

#include "backends/cuda/cudnn_handle.h"
#include "tensor/dtype.h"

namespace dither::cuda {

/// A convolution of images or videos (cross-correlation, no dilation, one group) and what follows
/// it.
struct ConvGeometry {
  std::int64_t batch = 1;
  std::int64_t frames = 0;  ///< of the input, as are h and w; 0: images
  std::int64_t h = 0;
  std::int64_t w = 0;
  std::int64_t c_in = 0;  ///< for bf16 both channel counts are multiples of 8
  std::int64_t c_out = 0;
  std::int64_t kt = 1;
  std::int64_t kh = 1;
  std::int64_t kw = 1;
  std::int64_t stride_t = 1;
  std::int64_t stride = 1;                    ///< in both directions of the image
  std::array<int, 4> padding = {0, 0, 0, 0};  ///< top, left, bottom, right; zeros
  DType dtype = DType::kBF16;                 ///< of every tensor: kBF16 or kF32
  bool bias = false;
  bool residual = false;

  std::int64_t out_frames() const { return frames == 0 ? 0 : (frames - kt) / stride_t + 1; }
  std::int64_t out_h() const { return (h + padding[0] + padding[2] - kh) / stride + 1; }
  std::int64_t out_w() const { return (w + padding[1] + padding[3] - kw) / stride + 1; }

  auto operator<=>(const ConvGeometry&) const = default;
};

/// y = conv(x, w) + residual + bias over NHWC images or NDHWC videos, sums in float32. float32 is
/// multiplied in float32, never TF32; for that cuDNN may change the layout, in scratch memory
/// of 1.5 times the image. One fused kernel where cuDNN has one, and then one rounding; else the
/// convolution and a second kernel for the additions, with a rounding to the dtype in between. The
/// same bits every time: no timing decides, engines that are not deterministic are left out. A plan
/// is built at the first call of a geometry (0.04-1 s, at most three) and kept; from the second
/// call of it on nothing is allocated and the call may be captured in a CUDA graph. Not
/// thread-safe.
class CudnnConv {
 public:
  /// The handle outlives this object.
  CudnnConv(const CudnnHandle& handle, CudnnScratch scratch);
  ~CudnnConv();
  CudnnConv(const CudnnConv&) = delete;
  CudnnConv& operator=(const CudnnConv&) = delete;

  /// Whether run() takes this geometry; builds the plan that it will use. Throws kInvalidArgument
  /// (geometry), kDevice.
  bool supports(const ConvGeometry& geometry);

  /// x [batch, h, w, c_in], weight [c_out, kh, kw, c_in], bias [c_out], residual and
  /// y [batch, out_h, out_w, c_out], with frames and kt before h and kh for videos, all of
  /// geometry.dtype, contiguous, 16-byte aligned; bias and
  /// residual are null where the geometry has none; y aliases nothing. Throws kInvalidArgument
  /// (geometry, operands), kUnsupported with cuDNN's reasons when no engine takes it, kDevice.
  void run(const ConvGeometry& geometry, const void* x, const void* weight, const void* bias,
           const void* residual, void* y);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dither::cuda
