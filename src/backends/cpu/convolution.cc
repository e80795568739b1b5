#include "backends/cpu/convolution.h"

#include "backends/cpu/host_backend.h"

namespace dither::cpu {
namespace {

using dnnl::memory;

constexpr int kResidual = DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1;

/// The extents that a convolution of this kind has, behind `first`.
memory::dims dims_of(std::initializer_list<std::int64_t> first,
                     const std::array<std::int64_t, 3>& extents, bool video) {
  memory::dims dims(first);
  dims.insert(dims.end(), extents.begin() + (video ? 0 : 1), extents.end());
  return dims;
}

}  // namespace

struct ConvolutionKernels::PackedConv2d final : ops::PreparedConv2d, Packed {
  using PreparedConv2d::PreparedConv2d;
  std::size_t resident_bytes() const override { return Packed::resident_bytes(); }
};

struct ConvolutionKernels::PackedConv3d final : ops::PreparedConv3d, Packed {
  using PreparedConv3d::PreparedConv3d;
  std::size_t resident_bytes() const override { return Packed::resident_bytes(); }
};

ConvolutionKernels::Shape ConvolutionKernels::shape_of(const ops::PreparedConv2d& weights,
                                                       const Dims& x) {
  const auto& [top, left, bottom, right] = weights.padding();
  Shape shape;
  shape.samples = x[0];
  shape.c_in = weights.in_channels();
  shape.c_out = weights.out_channels();
  shape.extent = {1, x[1], x[2]};
  shape.kernel = {1, weights.kernel_h(), weights.kernel_w()};
  shape.stride = {1, weights.stride(), weights.stride()};
  shape.before = {0, top, left};
  shape.after = {0, bottom, right};
  return shape;
}

ConvolutionKernels::Shape ConvolutionKernels::shape_of(const ops::PreparedConv3d& weights,
                                                       const Dims& x) {
  const auto& [top, left, bottom, right] = weights.padding();
  Shape shape;
  shape.video = true;
  shape.samples = x[0];
  shape.c_in = weights.in_channels();
  shape.c_out = weights.out_channels();
  shape.extent = {x[1], x[2], x[3]};
  shape.kernel = {weights.kernel_t(), weights.kernel_h(), weights.kernel_w()};
  shape.stride = {weights.stride_t(), 1, 1};
  shape.before = {0, top, left};
  shape.after = {0, bottom, right};
  return shape;
}

dnnl::convolution_forward::primitive_desc ConvolutionKernels::describe(const Shape& s) const {
  const auto type = data_type(s.dtype);
  const auto layout = s.video ? memory::format_tag::ndhwc : memory::format_tag::nhwc;
  std::array<std::int64_t, 3> out{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = (s.extent[i] + s.before[i] + s.after[i] - s.kernel[i]) / s.stride[i] + 1;
  }
  const memory::desc x(dims_of({s.samples, s.c_in}, s.extent, s.video), type, layout);
  const memory::desc y(dims_of({s.samples, s.c_out}, out, s.video), type, layout);
  const memory::desc weights(dims_of({s.c_out, s.c_in}, s.kernel, s.video), type,
                             memory::format_tag::any);
  const auto bias = s.bias ? memory::desc({s.c_out}, type, memory::format_tag::a) : memory::desc();
  dnnl::post_ops post_ops;
  if (s.residual == Residual::kOperand) post_ops.append_binary(dnnl::algorithm::binary_add, y);
  if (s.residual == Residual::kInResult) post_ops.append_sum();
  const dnnl::convolution_forward::desc convolution(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, x, weights, bias, y,
      dims_of({}, s.stride, s.video), dims_of({}, s.before, s.video),
      dims_of({}, s.after, s.video));
  return {convolution, attributes(post_ops), onednn_.engine()};
}

ConvolutionKernels::Primitive& ConvolutionKernels::primitive(const Shape& shape) {
  if (const auto found = primitives_.find(shape); found != primitives_.end()) return found->second;
  onednn_.use_threads();  // a primitive splits its work for the threads of its creation
  const auto described = describe(shape);
  Primitive made{dnnl::convolution_forward(described),
                 described.weights_desc(),
                 described.scratchpad_desc(),
                 {}};
  const auto slot = [&](int arg, const memory::desc& desc) {
    made.args.emplace(arg, memory(desc, onednn_.engine(), DNNL_MEMORY_NONE));
  };
  slot(DNNL_ARG_SRC, described.src_desc());
  slot(DNNL_ARG_DST, described.dst_desc());
  slot(DNNL_ARG_SCRATCHPAD, made.scratchpad);
  if (shape.bias) slot(DNNL_ARG_BIAS, described.bias_desc());
  if (shape.residual == Residual::kOperand) slot(kResidual, described.dst_desc());
  return primitives_.emplace(shape, std::move(made)).first->second;
}

void ConvolutionKernels::pack(const Tensor& weight, const Tensor& bias, Shape typical,
                              Packed& packed) {
  if (bias.defined()) packed.bias = backend_.upload(bias, packed.dtype);
  const Tensor plain = backend_.upload(weight, packed.dtype);
  typical.dtype = packed.dtype;
  typical.bias = packed.bias.defined();
  translating("convolution weights", [&] {
    const memory from({dims_of({typical.c_out, typical.c_in}, typical.kernel, typical.video),
                       data_type(packed.dtype),
                       typical.video ? memory::format_tag::oidhw : memory::format_tag::oihw},
                      onednn_.engine(), plain.raw());
    packed.weights = onednn_.allocate(describe(typical).weights_desc(), packed.owner);
    onednn_.reorder(from, packed.weights);
  });
}

std::unique_ptr<ops::PreparedConv2d> ConvolutionKernels::prepare(const ops::Conv2dWeights& weights,
                                                                 DType dtype) {
  constexpr std::int64_t kTypicalExtent = 64;
  auto packed = std::make_unique<PackedConv2d>(weights);
  packed->dtype = dtype;
  pack(weights.weight, weights.bias,
       shape_of(*packed, {1, kTypicalExtent, kTypicalExtent, packed->in_channels()}), *packed);
  return packed;
}

std::unique_ptr<ops::PreparedConv3d> ConvolutionKernels::prepare(const ops::Conv3dWeights& weights,
                                                                 DType dtype) {
  constexpr std::int64_t kTypicalExtent = 64;
  auto packed = std::make_unique<PackedConv3d>(weights);
  packed->dtype = dtype;
  pack(weights.weight, weights.bias,
       shape_of(*packed, {1, packed->kernel_t() + packed->stride_t(), kTypicalExtent,
                          kTypicalExtent, packed->in_channels()}),
       *packed);
  return packed;
}

ConvolutionKernels::Residual ConvolutionKernels::kind_of(const Tensor& residual) {
  if (!residual.defined()) return Residual::kNone;
  return OneDnn::has_avx2() ? Residual::kOperand : Residual::kInResult;
}

void ConvolutionKernels::run(const Tensor& x, const ops::PreparedConv2d& weights,
                             const Tensor& residual, const Tensor& y) {
  const auto& layer = prepared_here<PackedConv2d>(weights, "conv2d");
  translating("conv2d", [&] { run(shape_of(layer, x.shape()), layer, x, residual, y); });
}

void ConvolutionKernels::run(const Tensor& x, const ops::PreparedConv3d& weights,
                             const Tensor& residual, const Tensor& y) {
  const auto& layer = prepared_here<PackedConv3d>(weights, "conv3d");
  translating("conv3d", [&] { run(shape_of(layer, x.shape()), layer, x, residual, y); });
}

void ConvolutionKernels::run(Shape shape, const Packed& layer, const Tensor& x,
                             const Tensor& residual, const Tensor& y) {
  shape.dtype = layer.dtype;
  shape.bias = layer.bias.defined();
  shape.residual = kind_of(residual);
  auto& [convolution, layout, scratchpad, args] = primitive(shape);
  if (layer.weights.get_desc() != layout) {
    Tensor owner;
    const memory moved = onednn_.allocate(layout, owner);
    onednn_.reorder(layer.weights, moved);
    layer.weights = moved;
    layer.owner = owner;
  }
  args[DNNL_ARG_WEIGHTS] = layer.weights;
  args[DNNL_ARG_SRC].set_data_handle(x.raw());
  args[DNNL_ARG_DST].set_data_handle(y.raw());
  if (layer.bias.defined()) args[DNNL_ARG_BIAS].set_data_handle(layer.bias.raw());
  if (shape.residual == Residual::kOperand) args[kResidual].set_data_handle(residual.raw());
  if (shape.residual == Residual::kInResult && residual.raw() != y.raw()) {
    backend_.copy(residual, y);
  }
  onednn_.execute(convolution, scratchpad, args);
}

}  // namespace dither::cpu
