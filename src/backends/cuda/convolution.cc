#include "backends/cuda/convolution.h"

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/image.h"
#include "backends/cuda/kernels/narrow_conv.h"
#include "backends/cuda/kernels/upsampled_conv.h"
#include "base/error.h"

namespace dither::cuda {
namespace {

constexpr std::int64_t kChannelMultiple = 8;

std::int64_t padded(std::int64_t channels) {
  return (channels + kChannelMultiple - 1) / kChannelMultiple * kChannelMultiple;
}

Shape with_channels(const Shape& shape, std::int64_t channels) {
  Shape result = shape;
  result[-1] = channels;
  return result;
}

template <typename Own, typename Prepared>
const Own& prepared_here(const Prepared& weights, const char* op) {
  if (const auto* own = dynamic_cast<const Own*>(&weights)) return *own;
  throw Error(ErrorCode::kInvalidArgument,
              std::string(op) + ": the weights were prepared by another backend");
}

/// What convolutions of images and of videos have in common: x [B, (F,) H, W, padded C_in].
template <typename Conv>
ConvGeometry plane_geometry(const Tensor& x, const Conv& conv) {
  ConvGeometry geometry{};
  geometry.batch = x.dim(0);
  geometry.h = x.dim(-3);
  geometry.w = x.dim(-2);
  geometry.c_in = x.dim(-1);
  geometry.c_out = padded(conv.out_channels());
  geometry.kh = conv.kernel_h();
  geometry.kw = conv.kernel_w();
  geometry.padding = conv.padding();
  geometry.dtype = x.dtype();
  return geometry;
}

/// What launch_narrow_conv() takes.
bool is_narrow(const ConvGeometry& geometry, const Tensor& y) {
  return geometry.dtype == DType::kBF16 && geometry.kh == 3 && geometry.kw == 3 &&
         geometry.stride == 1 && narrow_conv_takes(geometry.c_in, y.dim(-1));
}

std::size_t bytes_of(const Tensor& tensor) { return tensor.defined() ? tensor.bytes() : 0; }

}  // namespace

struct ConvolutionKernels::DeviceConv2d final : ops::PreparedConv2d {
  using PreparedConv2d::PreparedConv2d;
  std::size_t resident_bytes() const override { return bytes_of(weight) + bytes_of(bias); }

  /// Its four phases are one convolution of the small image, see kernels/upsampled_conv.h.
  bool takes_small_image() const override {
    return upsamples() && kernel_h() == 3 && kernel_w() == 3 && stride() == 1 &&
           padding() == std::array{1, 1, 1, 1};
  }

  Tensor weight;  ///< [padded C_out, kh, kw, padded C_in] of dtype; 4 C_out, 2, 2 of phases
  Tensor bias;    ///< [padded C_out] of dtype, or of 4 C_out
};

struct ConvolutionKernels::DeviceConv3d final : ops::PreparedConv3d {
  using PreparedConv3d::PreparedConv3d;
  std::size_t resident_bytes() const override {
    return bytes_of(weight) + bytes_of(bias) + bytes_of(image_weight);
  }

  Tensor weight;                ///< [padded C_out, kt, kh, kw, C_in of padded rows] of dtype
  Tensor bias;                  ///< [padded C_out] of dtype
  mutable Tensor image_weight;  ///< [padded C_out, kh, kw, kt padded C_in], once it is needed
};

Tensor ConvolutionKernels::zeros(const Shape& shape, DType dtype) {
  Tensor tensor = Tensor::empty(shape, dtype, backend_);
  check(cudaMemsetAsync(tensor.raw(), 0, tensor.bytes(), stream_), "zero a tensor");
  return tensor;
}

std::int64_t ConvolutionKernels::row_channels(std::int64_t channels, DType dtype) {
  constexpr std::int64_t kAtATime = 64;
  const bool half = channels > kAtATime && channels % kAtATime == kAtATime / 2;
  return half && dtype == DType::kBF16 ? channels + kAtATime / 2 : channels;
}

Tensor ConvolutionKernels::padded_channels(const Tensor& x, std::int64_t channels) {
  if (x.dim(-1) == channels) return x;
  Tensor wide = Tensor::empty(with_channels(x.shape(), channels), x.dtype(), backend_);
  backend_.copy(x, wide.slice(-1, 0, x.dim(-1)));
  return with_zeros(wide, x.dim(-1));
}

Tensor ConvolutionKernels::with_zeros(const Tensor& x, std::int64_t used) {
  launch_clear_columns({.rows = row_view(x), .dtype = x.dtype(), .first = used}, stream_);
  return x;
}

Tensor ConvolutionKernels::padded_bias(const Tensor& host, std::int64_t channels, DType dtype) {
  if (!host.defined()) return {};
  Tensor bias = zeros({padded(channels)}, dtype);
  backend_.copy(host, bias.slice(0, 0, channels));
  return bias;
}

std::unique_ptr<ops::PreparedConv2d> ConvolutionKernels::prepare(const ops::Conv2dWeights& weights,
                                                                 DType dtype) {
  auto conv = std::make_unique<DeviceConv2d>(weights);
  const std::int64_t out = conv->out_channels();
  const std::int64_t in = conv->in_channels();
  if (conv->takes_small_image()) {
    fold_upsampling(weights, dtype, *conv);
    return conv;
  }
  conv->weight = zeros({padded(out), conv->kernel_h(), conv->kernel_w(), padded(in)}, dtype);
  const Tensor stored = backend_.upload(weights.weight, weights.weight.dtype());
  backend_.copy(stored.permute({0, 2, 3, 1}), conv->weight.slice(0, 0, out).slice(3, 0, in));
  conv->bias = padded_bias(weights.bias, out, dtype);
  return conv;
}

void ConvolutionKernels::fold_upsampling(const ops::Conv2dWeights& weights, DType dtype,
                                         DeviceConv2d& conv) {
  constexpr std::int64_t kPhases = 4;
  const std::int64_t out = conv.out_channels();
  const std::int64_t row = padded(conv.in_channels());
  conv.weight = zeros({padded(kPhases * out), 2, 2, row}, dtype);
  const Tensor stored = backend_.upload(weights.weight, DType::kF32);
  launch_fold_upsampling({.weight = stored.data<float>(),
                          .y = conv.weight.raw(),
                          .dtype = dtype,
                          .c_out = out,
                          .c_in = conv.in_channels(),
                          .row = row},
                         stream_);
  if (!weights.bias.defined()) return;
  conv.bias = zeros({padded(kPhases * out)}, dtype);
  const Tensor bias = backend_.upload(weights.bias, dtype);
  for (std::int64_t phase = 0; phase < kPhases; ++phase) {
    backend_.copy(bias, conv.bias.slice(0, phase * out, (phase + 1) * out));
  }
}

std::unique_ptr<ops::PreparedConv3d> ConvolutionKernels::prepare(const ops::Conv3dWeights& weights,
                                                                 DType dtype) {
  auto conv = std::make_unique<DeviceConv3d>(weights);
  const std::int64_t out = conv->out_channels();
  const std::int64_t in = conv->in_channels();
  conv->weight = zeros({padded(out), conv->kernel_t(), conv->kernel_h(), conv->kernel_w(),
                        padded(row_channels(in, dtype))},
                       dtype);
  const Tensor stored = backend_.upload(weights.weight, weights.weight.dtype());
  backend_.copy(stored.permute({0, 2, 3, 4, 1}), conv->weight.slice(0, 0, out).slice(4, 0, in));
  conv->bias = padded_bias(weights.bias, out, dtype);
  return conv;
}

void ConvolutionKernels::run(const ConvGeometry& geometry, const Tensor& wide, const Tensor& weight,
                             const Tensor& bias, const Tensor& residual, const Tensor& y) {
  ConvGeometry exact = geometry;
  exact.bias = bias.defined();
  exact.residual = residual.defined();
  const std::int64_t channels = y.dim(-1);
  const bool narrow = channels != geometry.c_out;
  const Tensor result =
      narrow ? Tensor::empty(with_channels(y.shape(), geometry.c_out), y.dtype(), backend_) : y;
  const Tensor shortcut = residual.defined() ? padded_channels(residual, geometry.c_out) : residual;
  conv_.run(exact, wide.raw(), weight.raw(), bias.defined() ? bias.raw() : nullptr,
            shortcut.defined() ? shortcut.raw() : nullptr, result.raw());
  if (narrow) backend_.copy(result.slice(-1, 0, channels), y);
}

void ConvolutionKernels::run(const Tensor& x, const ops::PreparedConv2d& weights,
                             const Tensor& residual, const Tensor& y) {
  const auto& conv = prepared_here<DeviceConv2d>(weights, "conv2d");
  const Tensor wide = padded_channels(x, padded(conv.in_channels()));
  ConvGeometry geometry = plane_geometry(wide, conv);
  if (conv.takes_small_image()) return run_phases(geometry, wide, conv, residual, y);
  geometry.stride = conv.stride();
  if (is_narrow(geometry, y) && !residual.defined()) return run_narrow(geometry, wide, conv, y);
  run(geometry, wide, conv.weight, conv.bias, residual, y);
}

void ConvolutionKernels::run_narrow(const ConvGeometry& geometry, const Tensor& wide,
                                    const DeviceConv2d& conv, const Tensor& y) {
  const auto& [top, left, bottom, right] = geometry.padding;
  launch_narrow_conv({.x = wide.raw(),
                      .weight = conv.weight.raw(),
                      .bias = conv.bias.defined() ? conv.bias.raw() : nullptr,
                      .y = y.raw(),
                      .samples = geometry.batch,
                      .height = geometry.h,
                      .width = geometry.w,
                      .c_in = geometry.c_in,
                      .c_out = y.dim(-1),
                      .top = top,
                      .left = left,
                      .bottom = bottom,
                      .right = right},
                     stream_);
}

void ConvolutionKernels::run_phases(ConvGeometry geometry, const Tensor& wide,
                                    const DeviceConv2d& conv, const Tensor& residual,
                                    const Tensor& y) {
  geometry.c_out = conv.weight.dim(0);
  geometry.kh = geometry.kw = 2;
  const Tensor phases = Tensor::empty(
      {wide.dim(0), geometry.out_h(), geometry.out_w(), geometry.c_out}, y.dtype(), backend_);
  run(geometry, wide, conv.weight, conv.bias, {}, phases);
  launch_join_phases({.phases = phases.raw(),
                      .y = y.raw(),
                      .dtype = y.dtype(),
                      .samples = wide.dim(0),
                      .height = wide.dim(1),
                      .width = wide.dim(2),
                      .channels = y.dim(3),
                      .row = geometry.c_out},
                     stream_);
  if (residual.defined()) backend_.add(y, residual, y);
}

Tensor ConvolutionKernels::frames_as_channels(const Tensor& wide, const DeviceConv3d& conv,
                                              std::int64_t results) {
  const std::int64_t channels = wide.dim(4);
  const Tensor images =
      Tensor::empty({wide.dim(0), results, wide.dim(2), wide.dim(3), conv.kernel_t() * channels},
                    wide.dtype(), backend_);
  for (std::int64_t i = 0; i < results; ++i) {
    for (std::int64_t t = 0; t < conv.kernel_t(); ++t) {
      const std::int64_t frame = i * conv.stride_t() + t;
      backend_.copy(wide.slice(1, frame, frame + 1),
                    images.slice(1, i, i + 1).slice(4, t * channels, (t + 1) * channels));
    }
  }
  return images;
}

void ConvolutionKernels::run(const Tensor& x, const ops::PreparedConv3d& weights,
                             const Tensor& residual, const Tensor& y) {
  const auto& conv = prepared_here<DeviceConv3d>(weights, "conv3d");
  const std::int64_t channels = conv.in_channels();
  const Tensor wide = x.dim(4) == channels
                          ? padded_channels(x, padded(row_channels(channels, x.dtype())))
                          : with_zeros(x, channels);
  ConvGeometry geometry = plane_geometry(wide, conv);
  geometry.frames = wide.dim(1);
  geometry.kt = conv.kernel_t();
  geometry.stride_t = conv.stride_t();
  geometry.bias = conv.bias.defined();
  geometry.residual = residual.defined();
  if (conv_.supports(geometry)) {
    run(geometry, wide, conv.weight, conv.bias, residual, y);
    return;
  }
  if (!conv.image_weight.defined()) {
    const Tensor& weight = conv.weight;
    conv.image_weight =
        Tensor::empty({weight.dim(0), weight.dim(2), weight.dim(3), weight.dim(1) * weight.dim(4)},
                      weight.dtype(), backend_);
    backend_.copy(weight.permute({0, 2, 3, 1, 4}),
                  conv.image_weight.unflatten(-1, weight.dim(1), weight.dim(4)));
  }
  const Tensor images = frames_as_channels(wide, conv, y.dim(1));
  geometry.batch = wide.dim(0) * y.dim(1);
  geometry.frames = 0;
  geometry.kt = geometry.stride_t = 1;
  geometry.c_in = images.dim(4);
  run(geometry, images, conv.image_weight, conv.bias, residual, y);
}

}  // namespace dither::cuda
