#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "ops/checks.h"
#include "ops/ops.h"

namespace dither::ops {
namespace {

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

void check_rope(const Check& check, const Rope& rope, std::int64_t tokens, std::int64_t head_dim) {
  check.shape("rope.cos", rope.cos, {tokens, head_dim / 2});
  check.shape("rope.sin", rope.sin, {tokens, head_dim / 2});
  check.that(rope.cos.dtype() == DType::kF32 && rope.sin.dtype() == DType::kF32 &&
                 rope.cos.contiguous() && rope.sin.contiguous(),
             "rope tables must be contiguous F32");
}

/// Operands of `shape` [B, L, H, D] as E4M3 codes of activations of `dtype`.
AttentionOperands empty_codes(const Check& check, const Shape& shape, DType dtype,
                              Backend& backend) {
  if (!backend.traits().e4m3_attention) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("attention in FP8: backend '{}' has none", backend.name()));
  }
  check.that(dtype == DType::kBF16 && shape[-1] % 16 == 0,
             "FP8 needs BF16 streams and a head_dim that is a multiple of 16");
  const auto codes = [&](const Shape& of) { return Tensor::empty(of, DType::kF8E4M3, backend); };
  const E4m3Values values = backend.e4m3_values(shape);
  return {codes(shape), codes(shape), codes(values.codes),
          Tensor::empty(values.scales, DType::kF32, backend)};
}

/// The dtype of the results of a layer that reads x.
DType activations_of(const Check& check, const Tensor& x, const PreparedLinear& weights) {
  if (x.dtype() != DType::kF8E4M3) {
    check.activation("x", x);
    return x.dtype();
  }
  const auto codes = weights.e4m3_input();
  check.that(codes.has_value(), "x is F8_E4M3, but these weights do not take codes");
  return codes->activations;
}

/// project_heads() as the ops that it is made of.
AttentionOperands project_in_steps(std::span<const HeadProjection> streams, const Rope& rope,
                                   std::int64_t heads, float eps, AttentionPrecision precision) {
  const Check check("project_heads");
  const HeadProjection& first = streams.front();
  const std::int64_t width = 3 * heads * (rope.cos.dim(1) * 2);
  std::int64_t tokens = 0;
  for (const HeadProjection& stream : streams) tokens += stream.x.dim(1);
  // Side by side, so that the attention can read the projections where they are.
  const DType dtype = activations_of(check, first.x, *first.weights);
  const Tensor joint =
      streams.size() > 1 ? empty_like(first.x, {first.x.dim(0), tokens, width}, dtype) : Tensor();
  std::vector<PackedQkv> packed;
  std::int64_t begin = 0;
  for (const HeadProjection& stream : streams) {
    const std::int64_t end = begin + stream.x.dim(1);
    Tensor qkv;
    if (joint.defined() && !stream.gated) {
      qkv = linear(stream.x, *stream.weights, {.out = {.tensor = joint.slice(1, begin, end)}});
    } else {
      const Tensor all = linear(stream.x, *stream.weights);
      qkv = stream.gated ? all.slice(-1, 0, width) : all;
      if (stream.gated) {
        gated_activation(all.slice(-1, width, all.dim(-1)), stream.gated->activation,
                         stream.gated->out);
      }
    }
    packed.push_back({qkv, stream.q_norm, stream.k_norm});
    begin = end;
  }
  return norm_rope_heads(packed, rope, heads, eps, precision);
}

}  // namespace

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
  check_rope(check, rope, tokens, head_dim);
  Backend& backend = backend_of(first);
  const Shape shape = {first.dim(0), tokens, heads, head_dim};
  if (precision == AttentionPrecision::kE4m3) {
    AttentionOperands out = empty_codes(check, shape, first.dtype(), backend);
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

AttentionOperands project_heads(std::span<const HeadProjection> streams, const Rope& rope,
                                std::int64_t heads, float eps, AttentionPrecision precision) {
  const Check check("project_heads");
  check.that(!streams.empty() && heads > 0, "needs a stream and a head");
  const Tensor& first = streams.front().x;
  Backend& backend = backend_of(first);
  check.rank("rope.cos", rope.cos, 2);
  const std::int64_t head_dim = 2 * rope.cos.dim(1);
  if (!backend.traits().fuses_projections || backend.linear_probe() != nullptr) {
    return project_in_steps(streams, rope, heads, eps, precision);
  }
  const DType dtype = activations_of(check, first, *streams.front().weights);
  std::vector<HeadProjection> prepared(streams.begin(), streams.end());
  std::int64_t tokens = 0;
  for (HeadProjection& stream : prepared) {
    check.rank("x", stream.x, 3);
    check.shape("x", stream.x, {first.dim(0), stream.x.dim(1), stream.weights->in_features()});
    check.like("x", stream.x, first);
    check.that(activations_of(check, stream.x, *stream.weights) == dtype,
               "streams have different activations");
    for (const Tensor* norm : {&stream.q_norm, &stream.k_norm}) {
      check.shape("norm", *norm, {head_dim});
      check.like("norm", *norm, dtype, first);
    }
    const std::int64_t rest = stream.weights->out_features() - 3 * heads * head_dim;
    check.that(
        stream.gated ? rest > 0 && rest % 2 == 0 : rest == 0,
        fmt::format("{} features are not 3 * heads * head_dim of {} heads, and twice a gated "
                    "width",
                    stream.weights->out_features(), heads));
    if (stream.gated) {
      const Tensor& out = stream.gated->out.tensor;
      check.that(out.defined() && is_row_view(out), "gated columns need a row view to go to");
      destination(check, stream.gated->out, {first.dim(0), stream.x.dim(1), rest / 2}, dtype,
                  backend);
    }
    stream.x = rows_of(stream.x);
    tokens += stream.x.dim(1);
  }
  check_rope(check, rope, tokens, head_dim);
  const Shape shape = {first.dim(0), tokens, heads, head_dim};
  const auto empty = [&] { return Tensor::empty(shape, dtype, backend); };
  AttentionOperands out = precision == AttentionPrecision::kE4m3
                              ? empty_codes(check, shape, dtype, backend)
                              : AttentionOperands{empty(), empty(), empty(), {}};
  backend.project_heads(prepared, rope, eps, out);
  return out;
}

Tensor gated_linear(const Tensor& x, const PreparedLinear& weights, const GatedColumns& columns) {
  const Check check("gated_linear");
  Backend& backend = backend_of(x);
  if (!backend.traits().fuses_projections || backend.linear_probe() != nullptr) {
    return gated_activation(linear(x, weights), columns.activation, columns.out);
  }
  const DType dtype = activations_of(check, x, weights);
  check.shape("x", x, with_last(x.shape(), weights.in_features()));
  check.that(weights.out_features() % 2 == 0, "the number of features must be even");
  const Tensor y = destination(check, columns.out, with_last(x.shape(), weights.out_features() / 2),
                               dtype, backend);
  write_to(y, backend, [&](const Tensor& result) {
    backend.gated_linear(rows_of(x), weights, columns.activation, columns.out.e4m3_scale, result);
  });
  return y;
}

Tensor attention(const AttentionOperands& in, const AttentionOptions& options) {
  const Check check("attention");
  const bool codes = in.q.dtype() == DType::kF8E4M3 && in.v_scale.defined();
  if (!codes) check.activation("q", in.q);
  check.rank("q", in.q, 4);
  check.rank("k", in.k, 4);
  check.shape("k", in.k, {in.q.dim(0), in.k.dim(1), in.q.dim(2), in.q.dim(3)});
  if (!codes) check.shape("v", in.v, in.k.shape());
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
  check.that(!options.first_codes || options.out.e4m3_scale, "only codes have first codes");
  check.that(!options.first_codes ||
                 (options.first_codes->tokens >= 0 && options.first_codes->tokens <= in.q.dim(1)),
             "first_codes are of more tokens than there are");
  Backend& backend = backend_of(in.q);
  const Shape shape = {in.q.dim(0), in.q.dim(1), in.q.dim(2) * in.q.dim(3)};
  const DType dtype = codes ? DType::kBF16 : in.q.dtype();
  Tensor y = destination(check, options.out, shape, dtype, backend);
  write_to(y, backend, [&](const Tensor& result) { backend.attention(in, options, result); });
  return y;
}

}  // namespace dither::ops
