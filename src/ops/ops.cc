#include "ops/ops.h"

#include <fmt/format.h>

#include <string_view>

#include "base/error.h"

namespace dither::ops {
namespace {

/// Checks operands of one op; every failure names the op, the operand and both shapes.
class Check {
 public:
  explicit Check(std::string_view op) : op_(op) {}

  void that(bool condition, std::string_view what) const {
    if (!condition) throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", op_, what));
  }
  void shape(std::string_view operand, const Tensor& tensor, const Shape& expected) const {
    if (tensor.shape() == expected) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} is {}, expected shape {}", op_, operand, to_string(tensor),
                            to_string(expected)));
  }
  void rank(std::string_view operand, const Tensor& tensor, int expected) const {
    if (tensor.rank() == expected) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} is {}, expected {} dimensions", op_, operand, to_string(tensor),
                            expected));
  }
  /// An activation (kF32 or kBF16); with `like`, of the same dtype and device.
  void activation(std::string_view operand, const Tensor& tensor) const {
    if (tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kBF16) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} is {}, expected F32 or BF16", op_, operand, to_string(tensor)));
  }
  void like(std::string_view operand, const Tensor& tensor, const Tensor& other) const {
    like(operand, tensor, other.dtype(), other);
  }
  /// The same where `other` holds codes of such activations.
  void like(std::string_view operand, const Tensor& tensor, DType dtype,
            const Tensor& other) const {
    if (tensor.dtype() == dtype && tensor.device() == other.device()) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} is {}, which differs from {} in dtype or device", op_, operand,
                            to_string(tensor), to_string(other)));
  }
  /// What multiplies activations of `dtype` per sample and channel: of that dtype or F32.
  void modulation(std::string_view operand, const Tensor& tensor, DType dtype,
                  const Tensor& x) const {
    like(operand, tensor, tensor.dtype() == DType::kF32 ? DType::kF32 : dtype, x);
  }
  /// `expected`: [B, D]; one row serves all samples.
  void modulated_norm(const Tensor& shift, const Tensor& scale, const Shape& expected, DType dtype,
                      const Tensor& x) const {
    that(shift.shape() == scale.shape() && shift.dtype() == scale.dtype(),
         fmt::format("shift {} and scale {} differ", to_string(shift), to_string(scale)));
    if (shift.rank() != 2 || shift.dim(0) != 1 || shift.dim(1) != expected[1]) {
      shape("shift", shift, expected);
    }
    modulation("shift", shift, dtype, x);
    modulation("scale", scale, dtype, x);
  }
  /// A per-channel weight [D] in x's dtype.
  void channel_weight(std::string_view operand, const Tensor& tensor, const Tensor& x,
                      std::int64_t channels) const {
    shape(operand, tensor, {channels});
    like(operand, tensor, x);
    that(tensor.contiguous(), "weights of a norm must be contiguous");
  }

 private:
  std::string_view op_;
};

Tensor like(const Tensor& x, const Shape& shape) {
  return Tensor::empty(shape, x.dtype(), backend_of(x));
}

/// Where a result of `shape` and `dtype` goes: out's tensor, checked, or a new one.
Tensor destination(const Check& check, const Output& out, const Shape& shape, DType dtype,
                   Backend& backend) {
  if (out.e4m3_scale) {
    dtype = DType::kF8E4M3;
    check.that(backend.traits().e4m3_activations,
               fmt::format("backend {} does not write E4M3 codes", backend.name()));
  }
  if (!out.tensor.defined()) return Tensor::empty(shape, dtype, backend);
  check.shape("out", out.tensor, shape);
  check.that(out.tensor.dtype() == dtype && out.tensor.device() == &backend,
             fmt::format("out is {}, expected {} on the operands' device", to_string(out.tensor),
                         dtype_name(dtype)));
  return out.tensor;
}

/// Runs `kernel(y)` with a y that the backend can write to, and brings the result to `out`.
template <typename Kernel>
void write_to(const Tensor& out, Backend& backend, const Kernel& kernel) {
  if (out.contiguous() || (backend.traits().strided_results && is_row_view(out))) {
    kernel(out);
    return;
  }
  const Tensor y = Tensor::empty(out.shape(), out.dtype(), backend);
  kernel(y);
  backend.copy(y, out);
}

Tensor rows_of(const Tensor& x) { return is_row_view(x) ? x : contiguous(x); }

Shape with_last(const Shape& shape, std::int64_t last) {
  Shape result = shape;
  result[-1] = last;
  return result;
}

/// The one tensor [1, sum L_s, 3 H D] that these streams are slices of, in their order; undefined
/// where they are not.
Tensor joined(std::span<const PackedQkv> streams) {
  const Tensor& first = streams.front().qkv;
  std::int64_t tokens = 0;
  const std::byte* next = first.raw();
  for (const PackedQkv& stream : streams) {
    const Tensor& qkv = stream.qkv;
    const bool follows = qkv.storage() == first.storage() && qkv.raw() == next;
    if (!follows || !qkv.contiguous() || qkv.dim(0) != 1) return {};
    tokens += qkv.dim(1);
    next += qkv.bytes();
  }
  return Tensor::view(first.storage(), first.raw() - first.storage()->data(),
                      {1, tokens, first.dim(2)}, first.dtype());
}

}  // namespace

Backend& backend_of(const Tensor& tensor) {
  if (tensor.device() == nullptr) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{} is in host memory, an op needs it on a backend", to_string(tensor)));
  }
  return static_cast<Backend&>(*tensor.device());  // the only kind of Device there is
}

Tensor linear(const Tensor& x, const PreparedLinear& weights, const LinearEpilogue& epilogue) {
  const Check check("linear");
  DType dtype = x.dtype();
  if (dtype == DType::kF8E4M3) {
    const auto codes = weights.e4m3_input();
    check.that(codes.has_value(), "x is F8_E4M3, but these weights do not take codes");
    dtype = codes->activations;
  } else {
    check.activation("x", x);
  }
  check.shape("x", x, with_last(x.shape(), weights.in_features()));
  const Shape shape = with_last(x.shape(), weights.out_features());
  LinearEpilogue prepared = epilogue;
  if (epilogue.gate.defined()) {
    check.rank("x", x, 3);
    check.shape("gate", epilogue.gate, {x.dim(0), weights.out_features()});
    check.modulation("gate", epilogue.gate, dtype, x);
    prepared.gate = rows_of(epilogue.gate);
  }
  if (epilogue.residual.defined()) {
    check.shape("residual", epilogue.residual, shape);
    check.like("residual", epilogue.residual, dtype, x);
    prepared.residual = rows_of(epilogue.residual);
  }
  Backend& backend = backend_of(x);
  Tensor y = destination(check, epilogue.out, shape, dtype, backend);
  const Tensor rows = rows_of(x);
  if (y.elements() > 0) {
    write_to(y, backend,
             [&](const Tensor& result) { backend.linear(rows, weights, prepared, result); });
  }
  if (LinearProbe* probe = backend.linear_probe()) probe->on_linear(weights, rows, prepared, y);
  return y;
}

NormedStream linear_norm(const Tensor& x, const PreparedLinear& weights,
                         const LinearEpilogue& epilogue, const ModulatedNorm& norm) {
  Backend& backend = backend_of(x);
  // Also where a probe looks at the result, since the norm is none of its business.
  if (!backend.traits().norms_linear_results) {
    const Tensor y = linear(x, weights, epilogue);
    return {.x = y, .normalized = layer_norm_modulate(y, norm)};
  }
  const Check check("linear_norm");
  check.rank("x", x, 3);
  check.that(!epilogue.out.e4m3_scale, "the result that is normalised cannot be E4M3 codes");
  const auto codes = weights.e4m3_input();
  const DType dtype = x.dtype() == DType::kF8E4M3 && codes ? codes->activations : x.dtype();
  check.modulated_norm(norm.shift, norm.scale, {x.dim(0), weights.out_features()}, dtype, x);
  const ModulatedNorm rows{.shift = rows_of(norm.shift),
                           .scale = rows_of(norm.scale),
                           .eps = norm.eps,
                           .e4m3_scale = norm.e4m3_scale};
  LinearEpilogue fused = epilogue;
  fused.norm = &rows;
  fused.normalized = destination(check, {.e4m3_scale = norm.e4m3_scale},
                                 {x.dim(0), x.dim(1), weights.out_features()}, dtype, backend);
  Tensor y = linear(x, weights, fused);
  return {.x = std::move(y), .normalized = std::move(fused.normalized)};
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  const Check check("layer_norm");
  check.activation("x", x);
  check.that(weight.defined() == bias.defined(), "weight and bias come together");
  if (weight.defined()) {
    check.channel_weight("weight", weight, x, x.dim(-1));
    check.channel_weight("bias", bias, x, x.dim(-1));
  }
  Tensor y = like(x, x.shape());
  backend_of(x).layer_norm(rows_of(x), weight, bias, eps, y);
  return y;
}

Tensor layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale, float eps,
                           const Output& out) {
  const Check check("layer_norm_modulate");
  check.activation("x", x);
  check.rank("x", x, 3);
  check.modulated_norm(shift, scale, {x.dim(0), x.dim(2)}, x.dtype(), x);
  Backend& backend = backend_of(x);
  Tensor y = destination(check, out, x.shape(), x.dtype(), backend);
  write_to(y, backend, [&](const Tensor& result) {
    backend.layer_norm_modulate(rows_of(x), rows_of(shift), rows_of(scale), eps, out.e4m3_scale,
                                result);
  });
  return y;
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  const Check check("rms_norm");
  check.activation("x", x);
  check.channel_weight("weight", weight, x, x.dim(-1));
  Tensor y = like(x, x.shape());
  backend_of(x).rms_norm(rows_of(x), weight, eps, y);
  return y;
}

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

AttentionOperands norm_rope_heads(std::span<const PackedQkv> streams, const Rope& rope,
                                  std::int64_t heads, float eps, AttentionPrecision precision) {
  const Check check("norm_rope_heads");
  check.that(!streams.empty() && heads > 0, "needs a stream and a head");
  const Tensor& first = streams.front().qkv;
  check.activation("qkv", first);
  check.rank("qkv", first, 3);
  check.that(first.dim(2) % (3 * heads) == 0, "width must be 3 * heads * head_dim");
  const std::int64_t head_dim = first.dim(2) / (3 * heads);
  std::vector<PackedQkv> prepared(streams.begin(), streams.end());
  std::int64_t tokens = 0;
  for (PackedQkv& stream : prepared) {
    check.shape("qkv", stream.qkv, {first.dim(0), stream.qkv.dim(1), first.dim(2)});
    check.like("qkv", stream.qkv, first);
    const std::int64_t all_heads = heads * head_dim;
    const std::int64_t width = stream.q_norm.shape() == Shape{all_heads} ? all_heads : head_dim;
    check.channel_weight("q_norm", stream.q_norm, first, width);
    check.channel_weight("k_norm", stream.k_norm, first, width);
    stream.qkv = rows_of(stream.qkv);
    tokens += stream.qkv.dim(1);
  }
  check.shape("rope.cos", rope.cos, {tokens, head_dim / 2});
  check.shape("rope.sin", rope.sin, {tokens, head_dim / 2});
  check.that(rope.cos.dtype() == DType::kF32 && rope.sin.dtype() == DType::kF32 &&
                 rope.cos.contiguous() && rope.sin.contiguous(),
             "rope tables must be contiguous F32");
  Backend& backend = backend_of(first);
  const Shape shape = {first.dim(0), tokens, heads, head_dim};
  if (precision == AttentionPrecision::kE4m3) {
    if (!backend.traits().e4m3_attention) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("attention in FP8: backend '{}' has none", backend.name()));
    }
    check.that(first.dtype() == DType::kBF16 && head_dim % 16 == 0,
               "FP8 needs BF16 streams and a head_dim that is a multiple of 16");
    const auto codes = [&] { return Tensor::empty(shape, DType::kF8E4M3, backend); };
    AttentionOperands out{codes(), codes(), codes(),
                          Tensor::empty({kScaleElements}, DType::kF32, backend)};
    backend.norm_rope_heads(prepared, rope, eps, out);
    return out;
  }
  const Tensor joint = backend.traits().rotates_in_place ? joined(prepared) : Tensor();
  const auto part = [&](std::int64_t index) {
    const std::int64_t width = heads * head_dim;
    return joint.defined()
               ? joint.slice(-1, index * width, (index + 1) * width).unflatten(-1, heads, head_dim)
               : like(first, shape);
  };
  AttentionOperands out{part(0), part(1), part(2), {}};
  backend.norm_rope_heads(prepared, rope, eps, out);
  return out;
}

Tensor attention(const AttentionOperands& in, const AttentionOptions& options) {
  const Check check("attention");
  const bool codes = in.q.dtype() == DType::kF8E4M3 && in.v_scale.defined();
  if (!codes) check.activation("q", in.q);
  check.rank("q", in.q, 4);
  check.rank("k", in.k, 4);
  check.shape("k", in.k, {in.q.dim(0), in.k.dim(1), in.q.dim(2), in.q.dim(3)});
  check.shape("v", in.v, in.k.shape());
  check.like("k", in.k, in.q);
  check.like("v", in.v, in.q);
  for (const Tensor* operand : {&in.q, &in.k, &in.v}) {
    check.that(operand->strides()[-1] == 1, "q, k and v need unit stride in the head dimension");
  }
  check.that(in.k.dim(1) > 0, "needs at least one key");
  if (options.bias.defined()) {
    check.shape("bias", options.bias, {in.q.dim(2), in.q.dim(1), in.k.dim(1)});
    check.that(options.bias.dtype() == DType::kF32 && options.bias.contiguous(),
               "bias must be contiguous F32");
  }
  Backend& backend = backend_of(in.q);
  const Shape shape = {in.q.dim(0), in.q.dim(1), in.q.dim(2) * in.q.dim(3)};
  const DType dtype = codes ? DType::kBF16 : in.q.dtype();
  Tensor y = destination(check, options.out, shape, dtype, backend);
  write_to(y, backend, [&](const Tensor& result) { backend.attention(in, options, result); });
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
  backend_of(x).conv2d(contiguous(x), weights, residual.defined() ? contiguous(residual) : residual,
                       y);
  return y;
}

Tensor conv3d(const Tensor& x, const PreparedConv3d& weights, const Tensor& residual) {
  const Check check("conv3d");
  check.activation("x", x);
  check.rank("x", x, 5);
  check.shape("x", x, {x.dim(0), x.dim(1), x.dim(2), x.dim(3), weights.in_channels()});
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
  backend_of(x).conv3d(contiguous(x), weights, residual.defined() ? contiguous(residual) : residual,
                       y);
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

Tensor embedding(const Tensor& table, const Tensor& ids) {
  const Check check("embedding");
  check.activation("table", table);
  check.rank("table", table, 2);
  check.rank("ids", ids, 2);
  check.that(ids.dtype() == DType::kI32 && ids.contiguous(), "ids must be contiguous I32");
  Tensor y = like(table, {ids.dim(0), ids.dim(1), table.dim(1)});
  backend_of(table).embedding(table, ids, y);
  return y;
}

Tensor activate(const Tensor& x, Activation activation) {
  Check("activate").activation("x", x);
  Tensor y = like(x, x.shape());
  backend_of(x).activate(rows_of(x), activation, y);
  return y;
}

Tensor gated_activation(const Tensor& x, Activation activation, const Output& out) {
  const Check check("gated_activation");
  check.activation("x", x);
  check.that(x.dim(-1) % 2 == 0, "the last dimension must be even");
  Backend& backend = backend_of(x);
  Tensor y = destination(check, out, with_last(x.shape(), x.dim(-1) / 2), x.dtype(), backend);
  write_to(y, backend, [&](const Tensor& result) {
    backend.gated_activation(rows_of(x), activation, out.e4m3_scale, result);
  });
  return y;
}

Tensor add(const Tensor& a, const Tensor& b) {
  const Check check("add");
  check.activation("a", a);
  check.like("b", b, a);
  check.that(b.rank() <= a.rank(), "b must not have more dimensions than a");
  for (int i = 1; i <= b.rank(); ++i) {
    check.that(a.dim(-i) == b.dim(-i),
               fmt::format("{} is not a suffix of {}", to_string(b), to_string(a)));
  }
  Tensor y = like(a, a.shape());
  backend_of(a).add(contiguous(a), contiguous(b), y);
  return y;
}

Tensor add_scaled(const Tensor& x, const Tensor& v, float factor) {
  const Check check("add_scaled");
  check.activation("x", x);
  check.shape("v", v, x.shape());
  check.like("v", v, x);
  Tensor y = like(x, x.shape());
  backend_of(x).add_scaled(contiguous(x), contiguous(v), factor, y);
  return y;
}

Tensor affine(const Tensor& x, float factor, float offset) {
  Check("affine").activation("x", x);
  Tensor y = like(x, x.shape());
  backend_of(x).affine(contiguous(x), factor, offset, y);
  return y;
}

Tensor empty_like(const Tensor& like, const Shape& shape, std::optional<DType> dtype) {
  return Tensor::empty(shape, dtype.value_or(like.dtype()), backend_of(like));
}

Tensor concat(std::span<const Tensor> tensors, int dim) {
  const Check check("concat");
  check.that(!tensors.empty(), "needs a tensor");
  const Tensor& first = tensors.front();
  Shape shape = first.shape();
  shape[dim] = 0;
  for (const Tensor& tensor : tensors) {
    check.that(tensor.rank() == first.rank(), "ranks differ");
    Shape expected = first.shape();
    expected[dim] = tensor.dim(dim);
    check.shape("operand", tensor, expected);
    check.like("operand", tensor, first);
    shape[dim] += tensor.dim(dim);
  }
  Tensor y = like(first, shape);
  std::int64_t begin = 0;
  for (const Tensor& tensor : tensors) {
    backend_of(first).copy(tensor, y.slice(dim, begin, begin + tensor.dim(dim)));
    begin += tensor.dim(dim);
  }
  return y;
}

void copy(const Tensor& from, const Tensor& to) {
  const Check check("copy");
  check.shape("to", to, from.shape());
  check.like("to", to, from);
  backend_of(from).copy(from, to);
}

Tensor contiguous(const Tensor& x) {
  if (x.contiguous()) return x;
  Tensor y = like(x, x.shape());
  backend_of(x).copy(x, y);
  return y;
}

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = Tensor::empty(x.shape(), dtype, backend_of(x));
  backend_of(x).copy(x, y);
  return y;
}

}  // namespace dither::ops
