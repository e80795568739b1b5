#include "backends/cuda/conv2d.h"

#include "backends/cuda/cuda_check.h"
#include "base/error.h"

namespace dither::cuda {
namespace {

constexpr std::int64_t kChannelMultiple = 8;

std::int64_t padded(std::int64_t channels) {
  return (channels + kChannelMultiple - 1) / kChannelMultiple * kChannelMultiple;
}

struct DeviceConv2d final : public ops::PreparedConv2d {
  explicit DeviceConv2d(const ops::Conv2dWeights& weights) : PreparedConv2d(weights) {}

  std::size_t resident_bytes() const override {
    return weight.bytes() + (bias.defined() ? bias.bytes() : 0);
  }

  Tensor weight;  ///< [padded C_out, kh, kw, padded C_in] of dtype
  Tensor bias;    ///< [padded C_out] of dtype
};

}  // namespace

Tensor Conv2dKernels::zeros(const Shape& shape, DType dtype) {
  Tensor tensor = Tensor::empty(shape, dtype, backend_);
  check(cudaMemsetAsync(tensor.raw(), 0, tensor.bytes(), stream_), "zero a tensor");
  return tensor;
}

Tensor Conv2dKernels::padded_channels(const Tensor& x, std::int64_t channels) {
  if (x.dim(3) == channels) return x;
  Tensor wide = zeros({x.dim(0), x.dim(1), x.dim(2), channels}, x.dtype());
  backend_.copy(x, wide.slice(3, 0, x.dim(3)));
  return wide;
}

std::unique_ptr<ops::PreparedConv2d> Conv2dKernels::prepare(const ops::Conv2dWeights& weights,
                                                            DType dtype) {
  auto conv = std::make_unique<DeviceConv2d>(weights);
  const std::int64_t out = conv->out_channels();
  const std::int64_t in = conv->in_channels();
  conv->weight = zeros({padded(out), conv->kernel_h(), conv->kernel_w(), padded(in)}, dtype);
  const Tensor stored = backend_.upload(weights.weight, weights.weight.dtype());
  backend_.copy(stored.permute({0, 2, 3, 1}), conv->weight.slice(0, 0, out).slice(3, 0, in));
  if (weights.bias.defined()) {
    conv->bias = zeros({padded(out)}, dtype);
    const Tensor bias = backend_.upload(weights.bias, weights.bias.dtype());
    backend_.copy(bias, conv->bias.slice(0, 0, out));
  }
  return conv;
}

void Conv2dKernels::run(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
                        const Tensor& y) {
  const auto* conv = dynamic_cast<const DeviceConv2d*>(&weights);
  if (conv == nullptr) {
    throw Error(ErrorCode::kInvalidArgument,
                "conv2d: the weights were prepared by another backend");
  }
  const Tensor wide = padded_channels(x, padded(conv->in_channels()));
  const std::int64_t out = padded(conv->out_channels());
  const bool narrow = out != conv->out_channels();
  const bool fused_residual = residual.defined() && !narrow;
  const Tensor result =
      narrow ? Tensor::empty({y.dim(0), y.dim(1), y.dim(2), out}, y.dtype(), backend_) : y;
  ConvGeometry geometry{};
  geometry.batch = wide.dim(0);
  geometry.h = wide.dim(1);
  geometry.w = wide.dim(2);
  geometry.c_in = wide.dim(3);
  geometry.c_out = out;
  geometry.kh = conv->kernel_h();
  geometry.kw = conv->kernel_w();
  geometry.stride = conv->stride();
  geometry.padding = conv->padding();
  geometry.dtype = x.dtype();
  geometry.bias = conv->bias.defined();
  geometry.residual = fused_residual;
  conv_.run(geometry, wide.raw(), conv->weight.raw(),
            conv->bias.defined() ? conv->bias.raw() : nullptr,
            fused_residual ? residual.raw() : nullptr, result.raw());
  if (!narrow) return;
  backend_.copy(result.slice(3, 0, conv->out_channels()), y);
  if (residual.defined()) backend_.add(y, residual, y);
}

}  // namespace dither::cuda
