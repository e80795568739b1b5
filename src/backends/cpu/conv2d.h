#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>

#include "backends/cpu/onednn.h"
#include "ops/types.h"

namespace dither::cpu {

/// NHWC convolutions by oneDNN, in whatever weight layout its kernel for the shape prefers; bias
/// and residual are applied while the result is in registers. A primitive is made once per shape
/// and shared by all layers of that shape.
class Conv2dKernels {
 public:
  Conv2dKernels(OneDnn& onednn, ops::Backend& backend) : onednn_(onednn), backend_(backend) {}

  /// Weights in `dtype`.
  std::unique_ptr<ops::PreparedConv2d> prepare(const ops::Conv2dWeights& weights, DType dtype);
  /// All tensors of the dtype the weights were prepared for.
  void run(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
           const Tensor& y);

 private:
  struct Shape {
    DType dtype;
    std::int64_t samples, h, w, c_in, c_out, kernel_h, kernel_w, stride;
    std::array<int, 4> padding;
    bool bias, residual;
    auto operator<=>(const Shape&) const = default;
  };
  struct Primitive {
    dnnl::convolution_forward convolution;
    dnnl::memory::desc weights;
    dnnl::memory::desc scratchpad;
    OneDnn::Args args;
  };

  static Shape shape_of(const ops::PreparedConv2d& weights, DType dtype, const Dims& image,
                        bool bias, bool residual);
  dnnl::convolution_forward::primitive_desc describe(const Shape& shape) const;
  Primitive& primitive(const Shape& shape);

  OneDnn& onednn_;
  ops::Backend& backend_;
  std::map<Shape, Primitive> primitives_;
};

}  // namespace dither::cpu
