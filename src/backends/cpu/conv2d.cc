#include "backends/cpu/conv2d.h"

#include "backends/cpu/host_backend.h"

namespace dither::cpu {
namespace {

using dnnl::memory;

constexpr int kResidual = DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1;

struct PackedConv2d final : ops::PreparedConv2d {
  using PreparedConv2d::PreparedConv2d;
  std::size_t resident_bytes() const override {
    return owner.bytes() + (bias.defined() ? bias.bytes() : 0);
  }

  DType dtype = DType::kF32;
  // Kernels of other image sizes may prefer another layout: then the weights move to it.
  mutable Tensor owner;
  mutable memory weights;
  Tensor bias;  // [C_out]
};

memory::desc image(std::int64_t samples, std::int64_t channels, std::int64_t h, std::int64_t w,
                   DType dtype) {
  return {{samples, channels, h, w}, data_type(dtype), memory::format_tag::nhwc};
}

}  // namespace

Conv2dKernels::Shape Conv2dKernels::shape_of(const ops::PreparedConv2d& weights, DType dtype,
                                             const Dims& image, bool bias, bool residual) {
  return {dtype,
          image[0],
          image[1],
          image[2],
          weights.in_channels(),
          weights.out_channels(),
          weights.kernel_h(),
          weights.kernel_w(),
          weights.stride(),
          weights.padding(),
          bias,
          residual};
}

dnnl::convolution_forward::primitive_desc Conv2dKernels::describe(const Shape& s) const {
  const auto [top, left, bottom, right] = s.padding;
  const std::int64_t out_h = (s.h + top + bottom - s.kernel_h) / s.stride + 1;
  const std::int64_t out_w = (s.w + left + right - s.kernel_w) / s.stride + 1;
  const auto type = data_type(s.dtype);
  const auto y = image(s.samples, s.c_out, out_h, out_w, s.dtype);
  const memory::desc weights({s.c_out, s.c_in, s.kernel_h, s.kernel_w}, type,
                             memory::format_tag::any);
  const auto bias = s.bias ? memory::desc({s.c_out}, type, memory::format_tag::a) : memory::desc();
  dnnl::post_ops post_ops;
  if (s.residual) post_ops.append_binary(dnnl::algorithm::binary_add, y);
  const dnnl::convolution_forward::desc convolution(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
      image(s.samples, s.c_in, s.h, s.w, s.dtype), weights, bias, y, {s.stride, s.stride},
      {top, left}, {bottom, right});
  return {convolution, attributes(post_ops), onednn_.engine()};
}

Conv2dKernels::Primitive& Conv2dKernels::primitive(const Shape& shape) {
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
  if (shape.residual) slot(kResidual, described.dst_desc());
  return primitives_.emplace(shape, std::move(made)).first->second;
}

std::unique_ptr<ops::PreparedConv2d> Conv2dKernels::prepare(const ops::Conv2dWeights& weights,
                                                            DType dtype) {
  auto packed = std::make_unique<PackedConv2d>(weights);
  packed->dtype = dtype;
  if (weights.bias.defined()) packed->bias = backend_.upload(weights.bias, dtype);
  const Tensor plain = backend_.upload(weights.weight, dtype);
  translating("convolution weights", [&] {
    constexpr std::int64_t kTypicalExtent = 64;
    const Shape typical =
        shape_of(*packed, dtype, {1, kTypicalExtent, kTypicalExtent, packed->in_channels()},
                 packed->bias.defined(), false);
    const memory from({{plain.dim(0), plain.dim(1), plain.dim(2), plain.dim(3)},
                       data_type(dtype),
                       memory::format_tag::oihw},
                      onednn_.engine(), plain.raw());
    packed->weights = onednn_.allocate(describe(typical).weights_desc(), packed->owner);
    onednn_.reorder(from, packed->weights);
  });
  return packed;
}

void Conv2dKernels::run(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
                        const Tensor& y) {
  const auto& layer = prepared_here<PackedConv2d>(weights, "conv2d");
  translating("conv2d", [&] {
    auto& [convolution, layout, scratchpad, args] = primitive(
        shape_of(layer, layer.dtype, x.shape(), layer.bias.defined(), residual.defined()));
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
    if (residual.defined()) args[kResidual].set_data_handle(residual.raw());
    onednn_.execute(convolution, scratchpad, args);
  });
}

}  // namespace dither::cpu
