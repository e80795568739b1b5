#include "backends/cuda/linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/norm.h"
#include "backends/cuda/kernels/quantize.h"
#include "backends/cuda/modulation.h"
#include "ops/backend.h"
#include "ops/linear_group.h"

namespace dither::cuda {
namespace {

/// FP8 tensor cores read 16 bytes at a time (cuBLASLt's requirement for E4M3 operands).
constexpr std::int64_t kFp8Multiple = 16;

Matrix matrix(const Tensor& tensor) {
  const RowView view = row_view(tensor);
  return {.data = view.data,
          .dtype = tensor.dtype(),
          .rows = view.rows,
          .cols = view.cols,
          .row_stride = std::max(view.row_stride, view.cols)};
}

bool equal(std::span<const float> values) {
  return std::ranges::all_of(values, [&](float value) { return value == values.front(); });
}

Tensor host_floats(std::span<const float> values) {
  Tensor tensor = Tensor::host({static_cast<std::int64_t>(values.size())}, DType::kF32);
  std::ranges::copy(values, tensor.data<float>());
  return tensor;
}

std::string kernel_name(const ops::LinearGroup& group, DType resident, DType dtype) {
  const std::string_view name = dtype == DType::kF32 ? "f32" : "bf16";
  if (!group.input_scale) {
    return fmt::format("cuda {}{}", name, group.codes ? ", e4m3 weights" : "");
  }
  if (resident == DType::kF8E4M3) return "cuda e4m3";
  return fmt::format("cuda e4m3 as {}", name);
}

/// 2^row_exponents of the shards' rows, in float32; absent where no shard has any.
Tensor host_row_factors(std::span<const ops::LinearShard> shards, std::int64_t n) {
  if (std::ranges::all_of(shards, [](const auto& shard) { return shard.row_exponents.empty(); })) {
    return {};
  }
  Tensor factors = Tensor::host({n}, DType::kF32);
  std::fill_n(factors.data<float>(), n, 1.0F);
  std::int64_t begin = 0;
  for (const ops::LinearShard& shard : shards) {
    std::ranges::transform(shard.row_exponents, factors.data<float>() + begin,
                           [](std::int8_t exponent) { return std::ldexp(1.0F, exponent); });
    begin += shard.weight.dim(0);
  }
  return factors;
}

}  // namespace

/// One product of a DeviceLinear: rows [begin, begin + weight.rows) of N.
struct LinearPart {
  std::int64_t begin = 0;
  Tensor weight;            ///< [n, K]
  Tensor bias = {};         ///< [n] of the layer's dtype, at an address that is aligned
  float scale = 1;          ///< of the whole part, where `row_scales` is absent
  Tensor row_scales = {};   ///< [n] f32, of the product
  Tensor row_factors = {};  ///< [n] f32, powers of two that codes are expanded with
};

/// What all rows of a layer have, whichever product they are in.
struct RowVectors {
  Tensor bias;     ///< [N], or absent
  Tensor factors;  ///< [N] f32, or absent: LinearPart::row_factors
};

struct DeviceLinear final : public ops::PreparedLinear {
  using PreparedLinear::PreparedLinear;

  std::size_t resident_bytes() const override {
    std::size_t bytes = 0;
    for (const LinearPart& part : parts) {
      bytes += part.weight.bytes();
      for (const Tensor& rows : {part.bias, part.row_scales, part.row_factors}) {
        if (rows.defined()) bytes += rows.bytes();
      }
    }
    return bytes;
  }
  std::optional<ops::E4m3Input> e4m3_input() const override {
    if (!input_scale || parts.front().weight.dtype() != DType::kF8E4M3) return std::nullopt;
    return ops::E4m3Input{.scale = *input_scale, .activations = dtype};
  }

  DType dtype = DType::kBF16;
  std::optional<float> input_scale;
  std::vector<LinearPart> parts;
};

namespace {

const DeviceLinear& own(const ops::PreparedLinear& weights) {
  if (const auto* layer = dynamic_cast<const DeviceLinear*>(&weights)) return *layer;
  throw Error(ErrorCode::kInvalidArgument, "linear: the weights were prepared by another backend");
}

/// [N] biases of all shards, zeros where one has none; absent where none has.
Tensor stacked_bias(std::span<const ops::LinearShard> shards, std::int64_t n, DType dtype,
                    ops::Backend& backend) {
  if (std::ranges::none_of(shards, [](const auto& shard) { return shard.bias.defined(); })) {
    return {};
  }
  const Tensor zeros = Tensor::host({n}, dtype);
  Tensor bias = backend.upload(zeros, dtype);
  std::int64_t begin = 0;
  for (const ops::LinearShard& shard : shards) {
    const std::int64_t end = begin + shard.weight.dim(0);
    if (shard.bias.defined()) backend.copy(shard.bias, bias.slice(0, begin, end));
    begin = end;
  }
  return bias;
}

}  // namespace

void visit_weights(ops::PreparedLinear& weights, const std::function<void(Tensor&)>& visit) {
  auto* const layer = dynamic_cast<DeviceLinear*>(&weights);
  if (layer == nullptr) {
    throw Error(ErrorCode::kInvalidArgument, "weights to visit were prepared by another backend");
  }
  const auto visit_defined = [&](Tensor& tensor) {
    if (tensor.defined()) visit(tensor);
  };
  for (LinearPart& part : layer->parts) {
    for (Tensor* tensor : {&part.weight, &part.bias, &part.row_scales, &part.row_factors}) {
      visit_defined(*tensor);
    }
  }
}

/// All shards as one product, without its scales.
LinearPart LinearKernels::stacked_part(std::span<const ops::LinearShard> shards,
                                       const ops::LinearGroup& group, DType resident,
                                       const RowVectors& rows) {
  LinearPart part{.begin = 0,
                  .weight = Tensor::empty({group.n, group.k}, resident, weights_),
                  .bias = rows.bias,
                  .row_factors = rows.factors};
  std::int64_t begin = 0;
  for (const ops::LinearShard& shard : shards) {
    const std::int64_t end = begin + shard.weight.dim(0);
    backend_.copy(shard.weight, part.weight.slice(0, begin, end));
    begin = end;
  }
  return part;
}

/// A product per shard, each with its own of `scales`.
std::vector<LinearPart> LinearKernels::separate_parts(std::span<const ops::LinearShard> shards,
                                                      std::span<const float> scales, DType resident,
                                                      const RowVectors& rows) {
  std::vector<LinearPart> parts;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const Tensor& host = shards[i].weight;
    const std::int64_t end = begin + host.dim(0);
    LinearPart part{.begin = begin,
                    .weight = Tensor::empty(host.shape(), resident, weights_),
                    .scale = scales[i]};
    backend_.copy(host, part.weight);
    if (rows.bias.defined()) {
      part.bias = Tensor::empty({end - begin}, rows.bias.dtype(), backend_);
      backend_.copy(rows.bias.slice(0, begin, end), part.bias);
    }
    if (rows.factors.defined()) part.row_factors = rows.factors.slice(0, begin, end);
    parts.push_back(std::move(part));
    begin = end;
  }
  return parts;
}

std::unique_ptr<ops::PreparedLinear> LinearKernels::prepare(
    std::span<const ops::LinearShard> shards, DType dtype) {
  const ops::LinearGroup group = ops::group_shards(shards);
  const bool fp8 = group.input_scale && dtype == DType::kBF16 && group.k % kFp8Multiple == 0 &&
                   std::ranges::all_of(shards, [](const auto& shard) {
                     return shard.weight.dim(0) % kFp8Multiple == 0;
                   });
  const bool weight_only = group.codes && !group.input_scale;
  const DType resident = fp8 || weight_only ? DType::kF8E4M3 : dtype;
  auto layer = std::make_unique<DeviceLinear>(
      group.k, group.n,
      ops::precision_of(shards, group, resident, group.input_scale ? DType::kF8E4M3 : dtype,
                        kernel_name(group, resident, dtype)));
  layer->dtype = dtype;
  layer->input_scale = group.input_scale;

  // One product for all shards where one scale fits them, or FP8's scale per row. Powers of two per
  // row are no matter of the product.
  std::vector<float> scales;
  for (const ops::LinearShard& shard : shards) {
    scales.push_back(group.input_scale.value_or(1) * shard.weight_scale.value_or(1));
  }
  const Tensor factors = host_row_factors(shards, group.n);
  const RowVectors rows{
      .bias = stacked_bias(shards, group.n, dtype, backend_),
      .factors = factors.defined() ? backend_.upload(factors, DType::kF32) : Tensor()};
  if (equal(scales) || fp8) {
    LinearPart part = stacked_part(shards, group, resident, rows);
    if (equal(scales)) {
      part.scale = scales.front();
    } else {
      part.row_scales = backend_.upload(host_floats(group.scales), DType::kF32);
    }
    layer->parts.push_back(std::move(part));
  } else {
    layer->parts = separate_parts(shards, scales, resident, rows);
  }
  if (weight_only) {
    for (const LinearPart& part : layer->parts) {
      const auto bytes = static_cast<std::size_t>(part.weight.elements() * dtype_bits(dtype) / 8);
      largest_expansion_ = std::max(largest_expansion_, bytes);
    }
  }
  return layer;
}

/// The weight that is multiplied: codes of weight-only layers as numbers of the layer's dtype.
Matrix LinearKernels::operand(const LinearPart& part, const DeviceLinear& layer) {
  if (layer.input_scale || part.weight.dtype() != DType::kF8E4M3) return matrix(part.weight);
  Matrix values = matrix(part.weight);
  values.dtype = layer.dtype;
  values.data = expanded_(largest_expansion_);  // at once what the largest layer will need
  const auto* const codes = part.weight.data<std::uint8_t>();
  if (part.row_factors.defined()) {
    launch_expand_e4m3_rows({.codes = codes,
                             .values = values.data,
                             .dtype = layer.dtype,
                             .rows = values.rows,
                             .cols = values.cols,
                             .row_scales = part.row_factors.data<float>()},
                            stream_);
  } else {
    launch_expand_e4m3({.codes = codes,
                        .values = values.data,
                        .dtype = layer.dtype,
                        .count = part.weight.elements()},
                       stream_);
  }
  return values;
}

Tensor LinearKernels::quantized(const Tensor& x, const DeviceLinear& layer) {
  const float reciprocal = 1 / *layer.input_scale;
  Tensor codes = Tensor::empty(x.shape(), DType::kF8E4M3, backend_);
  launch_quantize_e4m3(
      {.x = row_view(x), .codes = row_view(codes), .dtype = x.dtype(), .reciprocal = reciprocal},
      stream_);
  if (layer.e4m3_input()) return codes;
  Tensor values = Tensor::empty(x.shape(), x.dtype(), backend_);
  launch_expand_e4m3({.codes = codes.data<std::uint8_t>(),
                      .values = values.raw(),
                      .dtype = x.dtype(),
                      .count = x.elements(),
                      .scale = 1},
                     stream_);
  return values;
}

std::optional<LinearOperands> LinearKernels::operands(const Tensor& x,
                                                      const ops::PreparedLinear& weights) {
  const DeviceLinear& layer = own(weights);
  if (layer.parts.size() != 1 || layer.dtype != DType::kBF16) return std::nullopt;
  const LinearPart& part = layer.parts.front();
  const bool make_codes = layer.input_scale && x.dtype() != DType::kF8E4M3;
  return LinearOperands{
      .x = make_codes ? quantized(x, layer) : x,
      .w = operand(part, layer),
      .bias = part.bias.defined() ? part.bias.raw() : nullptr,
      .scale = part.scale,
      .row_scales = part.row_scales.defined() ? part.row_scales.data<float>() : nullptr};
}

/// y = [gelu](product + bias) [+ residual] or its codes, written by the product itself.
void LinearKernels::multiply(const Tensor& x, const DeviceLinear& layer,
                             const ops::LinearEpilogue& epilogue, const Tensor& y) {
  for (const LinearPart& part : layer.parts) {
    const std::int64_t end = part.begin + part.weight.dim(0);
    const Tensor columns = y.slice(-1, part.begin, end);
    Product product{.x = matrix(x), .w = operand(part, layer), .y = matrix(columns)};
    product.alpha = part.scale;
    product.gelu_tanh =
        epilogue.activation == ops::Activation::kGeluTanh && layer.dtype == DType::kBF16;
    if (part.bias.defined()) product.bias = part.bias.raw();
    if (part.row_scales.defined()) {
      product.w_scale = part.row_scales.data<float>();
      product.x_scale = constants_.ones(product.x.rows);
    }
    if (epilogue.residual.defined()) {
      product.c = matrix(epilogue.residual.slice(-1, part.begin, end));
      product.beta = 1;
    }
    if (y.dtype() == DType::kF8E4M3)
      product.y_scale = constants_.scalar(1 / *epilogue.out.e4m3_scale);
    matmul_.run(product, stream_);
  }
}

/// y = residual + gate * activation(product), and its norm where the epilogue has one.
void LinearKernels::finish(const Tensor& product, ops::Activation activation,
                           const ops::LinearEpilogue& epilogue, const Tensor& y) {
  GatedResidualArgs args{};
  args.x = row_view(product);
  args.y = row_view(y);
  args.dtype = product.dtype();
  args.activation = activation;
  if (epilogue.residual.defined()) args.residual = row_view(epilogue.residual);
  if (epilogue.gate.defined()) {
    args.gate_dtype = epilogue.gate.dtype();
    args.gate = epilogue.gate.raw();
    args.gate_stride = row_view(epilogue.gate).row_stride;
    args.rows_per_sample = product.dim(1);
  }
  if (epilogue.norm == nullptr) return launch_gated_residual(args, stream_);
  const Modulation norm =
      modulation(*epilogue.norm, y.dtype(), y.dim(1), epilogue.normalized, backend_);
  launch_gated_residual_norm(args, norm.args, stream_);
}

void LinearKernels::run(const Tensor& x, const ops::PreparedLinear& weights,
                        const ops::LinearEpilogue& epilogue, const Tensor& y) {
  const DeviceLinear& layer = own(weights);
  const bool make_codes = layer.input_scale && x.dtype() != DType::kF8E4M3;
  const Tensor input = make_codes ? quantized(x, layer) : x;

  // cuBLASLt approximates tanh to about 1e-5: less than bfloat16 shows, more than float32 does.
  const bool gelu =
      epilogue.activation == ops::Activation::kGeluTanh && layer.dtype == DType::kBF16;
  const bool plain = epilogue.activation == ops::Activation::kNone;
  const bool needs_pass =
      epilogue.gate.defined() || (!plain && !gelu) || (!plain && epilogue.residual.defined());
  const std::optional<float> codes = epilogue.out.e4m3_scale;
  const bool writes_codes = layer.e4m3_input() && layer.parts.size() == 1 &&
                            !layer.parts.front().row_scales.defined() &&
                            !epilogue.residual.defined();
  if (!needs_pass && (!codes || writes_codes)) {
    multiply(input, layer, epilogue, y);
    if (epilogue.norm != nullptr) {
      Modulation norm =
          modulation(*epilogue.norm, y.dtype(), y.dim(1), epilogue.normalized, backend_);
      norm.args.x = row_view(y);
      launch_layer_norm(norm.args, stream_);
    }
    return;
  }
  // The pass over a product leaves its result in the product's place, which the cache still holds.
  const auto apart = [&](const Tensor& operand) { return operand.storage() != y.storage(); };
  const bool in_place = needs_pass && !codes && y.contiguous() && y.dtype() == layer.dtype &&
                        apart(input) && apart(epilogue.residual);
  const Tensor product = in_place ? y : Tensor::empty(y.shape(), layer.dtype, backend_);
  if (!needs_pass) {
    multiply(input, layer, epilogue, product);
  } else {
    // Gelu in the product's epilogue; what else there is needs one pass over its result.
    multiply(input, layer, {.activation = gelu ? epilogue.activation : ops::Activation::kNone},
             product);
    finish(product, gelu ? ops::Activation::kNone : epilogue.activation, epilogue,
           codes ? product : y);
  }
  if (codes) {
    launch_quantize_e4m3({.x = row_view(product),
                          .codes = row_view(y),
                          .dtype = layer.dtype,
                          .reciprocal = 1 / *codes},
                         stream_);
  }
}

}  // namespace dither::cuda
