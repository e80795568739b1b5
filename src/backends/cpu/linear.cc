#include "backends/cpu/linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/cpu/host_backend.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/parallel.h"
#include "backends/cpu/strided.h"
#include "base/error.h"
#include "ops/linear_group.h"

namespace dither::cpu {

using dnnl::memory;

struct PackedLinear final : ops::PreparedLinear {
  using PreparedLinear::PreparedLinear;
  std::size_t resident_bytes() const override {
    std::size_t bytes = weights.bytes();
    if (scales.defined()) bytes += scales.bytes();
    if (bias.defined()) bytes += bias.bytes();
    return bytes;
  }

  DType dtype = DType::kF32;    ///< of activations, bias, gate and residual
  DType operand = DType::kF32;  ///< of what oneDNN multiplies
  memory::desc layout;          ///< [K, N] of `operand`
  Tensor weights;               ///< what `layout` describes; of codes one byte per element
  Tensor scales;                ///< [N] f32, or absent
  Tensor bias;                  ///< [N] of `dtype`, or absent
  bool codes = false;           ///< weights are E4M3 codes
  std::optional<float> input_scale;
};

namespace {

memory::desc matrix(std::int64_t rows, std::int64_t cols, DType dtype) {
  return {{rows, cols}, data_type(dtype), memory::format_tag::ab};
}

/// oneDNN's fast matmul takes dense matrices only; with strided rows it falls back to a reference
/// kernel, a thousand times slower. A copy is cheap beside the product.
Tensor dense(const Tensor& tensor, ops::Backend& backend) {
  if (!tensor.defined() || tensor.contiguous()) return tensor;
  Tensor copy = Tensor::empty(tensor.shape(), tensor.dtype(), backend);
  backend.copy(tensor, copy);
  return copy;
}

/// The values of E4M3 codes, [N, K] in `dtype`.
Tensor code_values(const Tensor& codes, DType dtype, ops::Backend& backend) {
  const Tensor plain = backend.upload(codes, DType::kF8E4M3);
  Tensor values = Tensor::empty(plain.shape(), dtype, backend);
  expand_e4m3(reinterpret_cast<const std::uint8_t*>(plain.raw()), values.raw(), dtype,
              plain.elements());
  return values;
}

/// The shards' rows below each other in `dtype`; a single shard of that dtype is shared, not
/// copied.
Tensor stacked_weight(std::span<const ops::LinearShard> shards, const ops::LinearGroup& group,
                      DType dtype, DType rounding, ops::Backend& backend) {
  const auto values = [&](const ops::LinearShard& shard) {
    return group.codes ? code_values(shard.weight, dtype, backend)
                       : backend.upload(shard.weight, rounding);
  };
  if (shards.size() == 1) {
    const Tensor only = values(shards.front());
    if (only.dtype() == dtype) return only;
  }
  Tensor stacked = Tensor::empty({group.n, group.k}, dtype, backend);
  std::int64_t begin = 0;
  for (const ops::LinearShard& shard : shards) {
    const std::int64_t end = begin + shard.weight.dim(0);
    backend.copy(values(shard), stacked.slice(0, begin, end));
    begin = end;
  }
  return stacked;
}

/// The shards' biases one after another, zero where a shard has none; absent when all lack it.
Tensor stacked_bias(std::span<const ops::LinearShard> shards, std::int64_t n, DType dtype,
                    DType rounding, ops::Backend& backend) {
  const auto has_bias = [](const ops::LinearShard& shard) { return shard.bias.defined(); };
  if (std::ranges::none_of(shards, has_bias)) return {};
  Tensor stacked = Tensor::empty({n}, dtype, backend);
  std::fill_n(stacked.raw(), stacked.bytes(), std::byte{0});
  std::int64_t begin = 0;
  for (const ops::LinearShard& shard : shards) {
    const std::int64_t end = begin + shard.weight.dim(0);
    if (shard.bias.defined()) {
      backend.copy(backend.upload(shard.bias, rounding), stacked.slice(0, begin, end));
    }
    begin = end;
  }
  return stacked;
}

std::string kernel_name(const ops::LinearGroup& group, DType operand) {
  const std::string_view multiplied = operand == DType::kBF16 ? "bf16" : "f32";
  if (group.input_scale) return fmt::format("onednn e4m3 as {}", multiplied);
  return fmt::format("onednn {}{}", multiplied, group.codes ? ", e4m3 weights" : "");
}

}  // namespace

/// The chain after the product: scale, bias, activation, gate, residual. Without a scale the bias
/// is the primitive's own.
LinearKernels::Operands LinearKernels::operands(const Shape& shape) {
  int index = 0;
  const auto next = [&index](bool present) {
    return present ? DNNL_ARG_ATTR_MULTIPLE_POST_OP(index++) | DNNL_ARG_SRC_1 : 0;
  };
  Operands keys{};
  keys.scale = next(shape.scale);
  keys.bias = shape.scale ? next(shape.bias) : DNNL_ARG_BIAS;
  if (shape.activation != ops::Activation::kNone) ++index;
  keys.gate = next(shape.gate);
  keys.residual = next(shape.residual);
  return keys;
}

dnnl::matmul::primitive_desc LinearKernels::describe(const Shape& shape,
                                                     const memory::desc& weights) const {
  using dnnl::algorithm;
  const memory::desc row = matrix(1, shape.n, shape.dtype);
  const memory::desc y = matrix(shape.rows, shape.n, shape.dtype);
  dnnl::post_ops post_ops;
  if (shape.scale) {
    post_ops.append_binary(algorithm::binary_mul, matrix(1, shape.n, DType::kF32));
    if (shape.bias) post_ops.append_binary(algorithm::binary_add, row);
  }
  append_activation(shape.activation, post_ops);
  if (shape.gate) {
    post_ops.append_binary(algorithm::binary_mul, matrix(1, shape.n, shape.gate_dtype));
  }
  if (shape.residual) post_ops.append_binary(algorithm::binary_add, y);
  const auto x = matrix(shape.rows, shape.k, shape.operand);
  const auto bias = shape.bias && !shape.scale ? row : memory::desc();
  return {dnnl::matmul::desc(x, weights, bias, y), attributes(post_ops), onednn_.engine()};
}

LinearKernels::Primitive& LinearKernels::primitive(const Shape& shape,
                                                   const memory::desc& weights) {
  if (const auto found = primitives_.find(shape); found != primitives_.end()) return found->second;
  onednn_.use_threads();  // a primitive splits its work for the threads of its creation
  auto described = describe(shape, weights);
  const bool of_one_thread = std::string_view(described.impl_info_str()).starts_with("gemm");
  if (of_one_thread) {
    OneDnn::use_one_thread();
    described = describe(shape, weights);
  }
  Primitive made{dnnl::matmul(described), described.scratchpad_desc(), {}, of_one_thread};
  const auto slot = [&](int arg, const memory::desc& desc) {
    made.args.emplace(arg, memory(desc, onednn_.engine(), DNNL_MEMORY_NONE));
  };
  slot(DNNL_ARG_SRC, described.src_desc());
  slot(DNNL_ARG_WEIGHTS, described.weights_desc());
  slot(DNNL_ARG_DST, described.dst_desc());
  slot(DNNL_ARG_SCRATCHPAD, made.scratchpad);
  const Operands keys = operands(shape);
  if (shape.scale) slot(keys.scale, matrix(1, shape.n, DType::kF32));
  if (shape.bias) slot(keys.bias, matrix(1, shape.n, shape.dtype));
  if (shape.gate) slot(keys.gate, matrix(1, shape.n, shape.gate_dtype));
  if (shape.residual) slot(keys.residual, described.dst_desc());
  return primitives_.emplace(shape, std::move(made)).first->second;
}

void LinearKernels::bind(const Shape& shape, const Pointers& pointers, OneDnn::Args& args) {
  const Operands keys = operands(shape);
  args[DNNL_ARG_SRC].set_data_handle(pointers.x);
  args[DNNL_ARG_WEIGHTS].set_data_handle(pointers.weights);
  args[DNNL_ARG_DST].set_data_handle(pointers.y);
  if (shape.scale) args[keys.scale].set_data_handle(pointers.scale);
  if (shape.bias) args[keys.bias].set_data_handle(pointers.bias);
  if (shape.gate) args[keys.gate].set_data_handle(pointers.gate);
  if (shape.residual) args[keys.residual].set_data_handle(pointers.residual);
}

/// Without AVX-512, oneDNN's order of summation depends on how it splits a product among threads.
/// There the rows are split here, into parts that depend on the shape alone, each of one thread: a
/// picture is the same for any number of threads.
void LinearKernels::multiply(const Shape& shape, const memory::desc& weights,
                             const Pointers& pointers) {
  Primitive& whole = primitive(shape, weights);
  if (!whole.of_one_thread) {
    bind(shape, pointers, whole.args);
    return onednn_.execute(whole.matmul, whole.scratchpad, whole.args);
  }
  // Enough parts for many threads, but every part packs the weights anew.
  constexpr std::int64_t kParts = 16;
  const std::int64_t rows = std::clamp<std::int64_t>((shape.rows + kParts - 1) / kParts, 32, 128);
  const auto skip = [](std::byte* data, std::int64_t elements, DType dtype) {
    return data == nullptr ? nullptr : data + elements * dtype_bits(dtype) / 8;
  };
  std::vector<OneDnn::Call> calls;
  for (std::int64_t first = 0; first < shape.rows; first += rows) {
    Shape part = shape;
    part.rows = std::min(rows, shape.rows - first);
    const Primitive& made = primitive(part, weights);
    OneDnn::Call call{made.matmul, made.scratchpad, {}};
    for (const auto& [key, operand] : made.args) {
      call.args.emplace(key, memory(operand.get_desc(), onednn_.engine(), DNNL_MEMORY_NONE));
    }
    Pointers at = pointers;
    at.x = skip(pointers.x, first * shape.k, shape.operand);
    at.residual = skip(pointers.residual, first * shape.n, shape.dtype);
    at.y = skip(pointers.y, first * shape.n, shape.dtype);
    bind(part, at, call.args);
    calls.push_back(std::move(call));
  }
  onednn_.execute_each(calls);
}

std::unique_ptr<ops::PreparedLinear> LinearKernels::prepare(
    std::span<const ops::LinearShard> shards, DType dtype, DType rounding) {
  const ops::LinearGroup group = ops::group_shards(shards);
  const bool fp8 = group.input_scale.has_value();
  const DType operand = fp8 ? codes_as_ : dtype;
  const DType resident = group.codes ? DType::kF8E4M3 : operand;
  const DType multiplied = fp8 ? DType::kF8E4M3 : operand;
  auto packed = std::make_unique<PackedLinear>(
      group.k, group.n,
      ops::precision_of(shards, group, resident, multiplied, kernel_name(group, operand)));
  packed->dtype = dtype;
  packed->operand = operand;
  packed->codes = group.codes;
  packed->input_scale = group.input_scale;
  packed->bias = stacked_bias(shards, group.n, dtype, rounding, backend_);
  if (!group.scales.empty()) {
    packed->scales = Tensor::empty({group.n}, DType::kF32, backend_);
    from_floats(group.scales, packed->scales);
  }
  pack(stacked_weight(shards, group, operand, rounding, backend_), *packed);
  return packed;
}

/// Reorders [N, K] weights into the layout that the matmul prefers, and stores codes there as
/// bytes.
void LinearKernels::pack(const Tensor& plain, PackedLinear& layer) {
  const std::int64_t n = layer.out_features();
  const std::int64_t k = layer.in_features();
  translating("linear weights", [&] {
    // The blocked layout depends on N, K and dtype, not on the number of rows.
    constexpr std::int64_t kTypicalRows = 128;
    const memory::desc any({k, n}, data_type(layer.operand), memory::format_tag::any);
    Shape typical{};
    typical.operand = layer.operand;
    typical.dtype = layer.dtype;
    typical.gate_dtype = layer.dtype;
    typical.rows = kTypicalRows;
    typical.n = n;
    typical.k = k;
    const memory from({{k, n}, data_type(layer.operand), memory::format_tag::ba}, onednn_.engine(),
                      plain.raw());
    const memory to = onednn_.allocate(describe(typical, any).weights_desc(), layer.weights);
    onednn_.reorder(from, to);
    layer.layout = to.get_desc();
  });
  if (!layer.codes) return;
  const Tensor blocked = layer.weights;
  const std::int64_t elements =
      static_cast<std::int64_t>(blocked.bytes()) * 8 / dtype_bits(layer.operand);
  layer.weights = Tensor::empty({elements}, DType::kF8E4M3, backend_);
  narrow_e4m3(blocked.raw(), layer.operand, reinterpret_cast<std::uint8_t*>(layer.weights.raw()),
              elements);
}

/// The weights that oneDNN multiplies.
Tensor LinearKernels::expanded(const PackedLinear& layer) {
  if (!layer.codes) return layer.weights;
  const std::int64_t count = layer.weights.elements();
  Tensor values = Tensor::empty({count}, layer.operand, backend_);
  constexpr std::int64_t kGrain = 32768;  // about a microsecond
  parallel_ranges(onednn_.threads(), count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    expand_e4m3(reinterpret_cast<const std::uint8_t*>(layer.weights.raw()) + begin,
                values.raw() + begin * dtype_bits(layer.operand) / 8, layer.operand, end - begin);
  });
  return values;
}

/// The activations that oneDNN multiplies: dense, in W8A8 as codes.
Tensor LinearKernels::quantized(const Tensor& x, const PackedLinear& layer) {
  if (!layer.input_scale) return dense(x, backend_);
  Tensor codes = Tensor::empty(x.shape(), layer.operand, backend_);
  const QuantizeArgs args{row_view(x), x.dtype(), row_view(codes), layer.operand,
                          1 / *layer.input_scale};
  const std::int64_t grain = std::max<std::int64_t>(1, 8192 / layer.in_features());
  parallel_ranges(onednn_.threads(), args.x.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    quantize_e4m3_rows(args, begin, end);
  });
  return codes;
}

void LinearKernels::run(const Tensor& x, const ops::PreparedLinear& weights,
                        const ops::LinearEpilogue& epilogue, const Tensor& y) {
  const auto& layer = prepared_here<PackedLinear>(weights, "linear");
  if (x.dtype() != layer.dtype) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("linear: '{}' was prepared for {}, x is {}",
                            layer.precision().front().name, dtype_name(layer.dtype), to_string(x)));
  }
  const Tensor values = expanded(layer);
  const Tensor input = quantized(x, layer);
  const Tensor residual = dense(epilogue.residual, backend_);
  const RowView gate = epilogue.gate.defined() ? row_view(epilogue.gate) : RowView{};
  // A gate row belongs to one sample, so gated batches are one product per sample.
  const std::int64_t samples = epilogue.gate.defined() ? x.dim(0) : 1;
  const DType gate_dtype = epilogue.gate.defined() ? epilogue.gate.dtype() : layer.dtype;
  const Shape shape{.operand = layer.operand,
                    .dtype = layer.dtype,
                    .gate_dtype = gate_dtype,
                    .rows = y.elements() / layer.out_features() / samples,
                    .n = layer.out_features(),
                    .k = layer.in_features(),
                    .activation = epilogue.activation,
                    .scale = layer.scales.defined(),
                    .bias = layer.bias.defined(),
                    .gate = epilogue.gate.defined(),
                    .residual = residual.defined()};
  translating("linear", [&] {
    for (std::int64_t sample = 0; sample < samples; ++sample) {
      const auto part = [&](const Tensor& tensor) -> std::byte* {
        if (!tensor.defined()) return nullptr;
        return tensor.raw() + tensor.bytes() / static_cast<std::size_t>(samples) *
                                  static_cast<std::size_t>(sample);
      };
      multiply(
          shape, layer.layout,
          {.x = part(input),
           .weights = values.raw(),
           .scale = shape.scale ? layer.scales.raw() : nullptr,
           .bias = shape.bias ? layer.bias.raw() : nullptr,
           .gate = shape.gate ? gate.data + sample * gate.row_stride * dtype_bits(gate_dtype) / 8
                              : nullptr,
           .residual = part(residual),
           .y = part(y)});
    }
  });
}

}  // namespace dither::cpu
