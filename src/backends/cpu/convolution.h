#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>

#include "backends/cpu/onednn.h"
#include "ops/types.h"

namespace dither::cpu {

/// Convolutions of NHWC images and NDHWC videos by oneDNN, in whatever weight layout its kernel for
/// the shape prefers; bias and residual are applied while the result is in registers. A primitive
/// is made once per shape and shared by all layers of that shape.
class ConvolutionKernels {
 public:
  ConvolutionKernels(OneDnn& onednn, ops::Backend& backend) : onednn_(onednn), backend_(backend) {}

  /// Weights in `dtype`.
  std::unique_ptr<ops::PreparedConv2d> prepare(const ops::Conv2dWeights& weights, DType dtype);
  std::unique_ptr<ops::PreparedConv3d> prepare(const ops::Conv3dWeights& weights, DType dtype);
  /// All tensors of the dtype the weights were prepared for.
  void run(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
           const Tensor& y);
  void run(const Tensor& x, const ops::PreparedConv3d& weights, const Tensor& residual,
           const Tensor& y);

 private:
  /// How the residual comes to the result.
  enum class Residual : std::uint8_t {
    kNone,
    kOperand,   ///< oneDNN adds another tensor
    kInResult,  ///< it lies where the result will: oneDNN 2.6 adds another wrongly without AVX2
  };
  static Residual kind_of(const Tensor& residual);

  /// Of a 2-D convolution the first of three extents, over time, is left out when oneDNN is asked.
  struct Shape {
    DType dtype = DType::kF32;
    bool video = false;
    std::int64_t samples = 1;
    std::int64_t c_in = 0;
    std::int64_t c_out = 0;
    std::array<std::int64_t, 3> extent = {1, 1, 1};  ///< frames, h, w
    std::array<std::int64_t, 3> kernel = {1, 1, 1};
    std::array<std::int64_t, 3> stride = {1, 1, 1};
    std::array<std::int64_t, 3> before = {0, 0, 0};  ///< zeros
    std::array<std::int64_t, 3> after = {0, 0, 0};
    bool bias = false;
    Residual residual = Residual::kNone;
    auto operator<=>(const Shape&) const = default;
  };
  struct Primitive {
    dnnl::convolution_forward convolution;
    dnnl::memory::desc weights;
    dnnl::memory::desc scratchpad;
    OneDnn::Args args;
  };
  /// What both kinds of weights are.
  struct Packed {
    DType dtype = DType::kF32;
    // Kernels of other image sizes may prefer another layout: then the weights move to it.
    mutable Tensor owner;
    mutable dnnl::memory weights;
    Tensor bias;  // [C_out]
    std::size_t resident_bytes() const {
      return owner.bytes() + (bias.defined() ? bias.bytes() : 0);
    }
  };
  struct PackedConv2d;
  struct PackedConv3d;

  static Shape shape_of(const ops::PreparedConv2d& weights, const Dims& x);
  static Shape shape_of(const ops::PreparedConv3d& weights, const Dims& x);
  dnnl::convolution_forward::primitive_desc describe(const Shape& shape) const;
  Primitive& primitive(const Shape& shape);
  void pack(const Tensor& weight, const Tensor& bias, Shape typical, Packed& packed);
  void run(Shape shape, const Packed& layer, const Tensor& x, const Tensor& residual,
           const Tensor& y);

  OneDnn& onednn_;
  ops::Backend& backend_;
  std::map<Shape, Primitive> primitives_;
};

}  // namespace dither::cpu
