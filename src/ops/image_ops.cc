#include <fmt/format.h>

#include "ops/checks.h"
#include "ops/ops.h"

// Ops on images and videos, channels last.
namespace dither::ops {

Tensor group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias, float eps,
                  Activation activation) {
  const Check check("group_norm");
  check.activation("x", x);
  check.rank("x", x, 4);
  check.that(groups > 0 && x.dim(3) % groups == 0, "channels must divide into the groups");
  check.channel_weight("weight", weight, x, x.dim(3));
  check.channel_weight("bias", bias, x, x.dim(3));
  Tensor y = like(x, x.shape());
  backend_of(x).group_norm(contiguous(x), groups, weight, bias, eps, activation, y);
  return y;
}

Tensor channel_norm(const Tensor& x, const Tensor& weight, Activation activation,
                    const Output& out) {
  const Check check("channel_norm");
  check.activation("x", x);
  check.channel_weight("weight", weight, x, x.dim(-1));
  check.that(!out.e4m3_scale, "the result cannot be E4M3 codes");
  Backend& backend = backend_of(x);
  Tensor y = destination(check, out, x.shape(), x.dtype(), backend);
  write_to(y, backend, [&](const Tensor& result) {
    backend.channel_norm(rows_of(x), weight, activation, result);
  });
  return y;
}

Tensor conv2d(const Tensor& x, const PreparedConv2d& weights, const Tensor& residual) {
  const Check check("conv2d");
  check.activation("x", x);
  check.rank("x", x, 4);
  check.shape("x", x, {x.dim(0), x.dim(1), x.dim(2), weights.in_channels()});
  const Shape shape = {x.dim(0), weights.out_h(x.dim(1)), weights.out_w(x.dim(2)),
                       weights.out_channels()};
  check.that(shape[1] > 0 && shape[2] > 0, "the image is smaller than the kernel");
  if (residual.defined()) {
    check.shape("residual", residual, shape);
    check.like("residual", residual, x);
  }
  Tensor y = like(x, shape);
  const bool enlarge = weights.upsamples() && !weights.takes_small_image();
  backend_of(x).conv2d(enlarge ? upsample_nearest2x(x) : contiguous(x), weights,
                       residual.defined() ? contiguous(residual) : residual, y);
  return y;
}

Tensor conv3d(const Tensor& x, const PreparedConv3d& weights, const Tensor& residual) {
  const Check check("conv3d");
  check.activation("x", x);
  check.rank("x", x, 5);
  Backend& backend = backend_of(x);
  if (x.dim(4) != backend.conv3d_row_channels(weights.in_channels(), x.dtype())) {
    check.shape("x", x, {x.dim(0), x.dim(1), x.dim(2), x.dim(3), weights.in_channels()});
  }
  const Shape shape = {x.dim(0), weights.out_frames(x.dim(1)), weights.out_h(x.dim(2)),
                       weights.out_w(x.dim(3)), weights.out_channels()};
  check.that(shape[1] > 0,
             fmt::format("{} frames are fewer than the kernel's {}", x.dim(1), weights.kernel_t()));
  check.that(shape[2] > 0 && shape[3] > 0, "the image is smaller than the kernel");
  if (residual.defined()) {
    check.shape("residual", residual, shape);
    check.like("residual", residual, x);
  }
  Tensor y = like(x, shape);
  backend.conv3d(contiguous(x), weights, residual.defined() ? contiguous(residual) : residual, y);
  return y;
}

Tensor upsample_nearest2x(const Tensor& x) {
  const Check check("upsample_nearest2x");
  check.activation("x", x);
  check.rank("x", x, 4);
  Tensor y = like(x, {x.dim(0), 2 * x.dim(1), 2 * x.dim(2), x.dim(3)});
  backend_of(x).upsample_nearest2x(contiguous(x), y);
  return y;
}

Tensor to_pixels(const Tensor& x) {
  Check("to_pixels").activation("x", x);
  Tensor y = Tensor::empty(x.shape(), DType::kU8, backend_of(x));
  backend_of(x).to_pixels(contiguous(x), y);
  return y;
}

}  // namespace dither::ops
