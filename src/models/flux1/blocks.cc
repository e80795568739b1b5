#include "models/flux1/blocks.h"

#include <array>
#include <cmath>
#include <optional>

namespace dither::models {
namespace {

/// The `index`-th shift, scale and gate of a step's vectors [B, 3 k D].
Modulation modulation_at(const Tensor& vectors, std::int64_t index, std::int64_t width) {
  const auto chunk = [&](std::int64_t i) {
    return vectors.slice(-1, (3 * index + i) * width, (3 * index + i + 1) * width);
  };
  return {chunk(0), chunk(1), chunk(2)};
}

/// (1 + scale) LN(x) + shift, in the form in which `reader` takes it.
ops::ModulatedNorm norm_for(const nn::Linear& reader, const Modulation& m) {
  return {.shift = m.shift, .scale = m.scale, .eps = kFlux1NormEps, .e4m3_scale = reader.codes()};
}

Tensor attend(const ops::AttentionOperands& qkv, const ops::Output& out = {}) {
  const auto head_dim = static_cast<float>(qkv.q.dim(-1));
  return ops::attention(qkv, {.scale = 1.0F / std::sqrt(head_dim), .out = out});
}

}  // namespace

FluxStream::FluxStream(const nn::WeightScope& block, const Names& names)
    : to_qkv_(
          {block / "attn" / names.to_q, block / "attn" / names.to_k, block / "attn" / names.to_v}),
      norm_q_((block / "attn" / names.norm_q).upload("weight")),
      norm_k_((block / "attn" / names.norm_k).upload("weight")),
      to_out_(block / "attn" / names.to_out),
      feed_forward_in_(block / names.feed_forward / "net.0.proj"),
      feed_forward_out_(block / names.feed_forward / "net.2") {}

ops::ModulatedNorm FluxStream::norm(const Modulation& attention) const {
  return norm_for(to_qkv_, attention);
}

ops::PackedQkv FluxStream::qkv(const Tensor& normalized, const Tensor& out) const {
  return {to_qkv_(normalized, {.out = {.tensor = out}}), norm_q_, norm_k_};
}

ops::NormedStream FluxStream::finish(const Tensor& x, const Tensor& attended,
                                     const Modulation& attention, const Modulation& feed_forward,
                                     const ops::ModulatedNorm& next) const {
  const auto [y, normalized] = to_out_(attended, {.gate = attention.gate, .residual = x},
                                       norm_for(feed_forward_in_, feed_forward));
  const Tensor hidden = feed_forward_in_(
      normalized,
      {.activation = ops::Activation::kGeluTanh, .out = {.e4m3_scale = feed_forward_out_.codes()}});
  return feed_forward_out_(hidden, {.gate = feed_forward.gate, .residual = y}, next);
}

DoubleStreamBlock::DoubleStreamBlock(const nn::WeightScope& scope, const Flux1Config& config)
    : heads_(config.num_attention_heads),
      image_(scope, {.to_q = "to_q",
                     .to_k = "to_k",
                     .to_v = "to_v",
                     .norm_q = "norm_q",
                     .norm_k = "norm_k",
                     .to_out = "to_out.0",
                     .feed_forward = "ff"}),
      text_(scope, {.to_q = "add_q_proj",
                    .to_k = "add_k_proj",
                    .to_v = "add_v_proj",
                    .norm_q = "norm_added_q",
                    .norm_k = "norm_added_k",
                    .to_out = "to_add_out",
                    .feed_forward = "ff_context"}) {}

StreamNorms DoubleStreamBlock::norms(const DoubleModulations& modulations) const {
  const std::int64_t width = modulations.image.dim(1) / 6;
  return {.image = image_.norm(modulation_at(modulations.image, 0, width)),
          .text = text_.norm(modulation_at(modulations.text, 0, width))};
}

Streams DoubleStreamBlock::operator()(const Streams& x, const DoubleModulations& modulations,
                                      const StreamNorms& next, const ops::Rope& rope,
                                      ops::AttentionPrecision precision) const {
  const std::int64_t width = x.image.x.dim(2);
  const Modulation image_attention = modulation_at(modulations.image, 0, width);
  const Modulation image_mlp = modulation_at(modulations.image, 1, width);
  const Modulation text_attention = modulation_at(modulations.text, 0, width);
  const Modulation text_mlp = modulation_at(modulations.text, 1, width);

  const std::int64_t text_tokens = x.text.x.dim(1);
  const std::int64_t tokens = text_tokens + x.image.x.dim(1);
  const auto text_rows = [&](const Tensor& t) { return t.slice(1, 0, text_tokens); };
  const auto image_rows = [&](const Tensor& t) { return t.slice(1, text_tokens, tokens); };
  // Side by side, so that the attention can read the projections where they are.
  const Tensor joint = ops::empty_like(x.image.x, {x.image.x.dim(0), tokens, 3 * width});
  const std::array<ops::PackedQkv, 2> streams = {text_.qkv(x.text.normalized, text_rows(joint)),
                                                 image_.qkv(x.image.normalized, image_rows(joint))};
  const Tensor attended =
      attend(ops::norm_rope_heads(streams, rope, heads_, kFlux1NormEps, precision));
  return {.image = image_.finish(x.image.x, image_rows(attended), image_attention, image_mlp,
                                 next.image),
          .text = text_.finish(x.text.x, text_rows(attended), text_attention, text_mlp, next.text)};
}

SingleStreamBlock::SingleStreamBlock(const nn::WeightScope& scope, const Flux1Config& config)
    : heads_(config.num_attention_heads),
      to_qkv_({scope / "attn.to_q", scope / "attn.to_k", scope / "attn.to_v"}),
      proj_mlp_(scope / "proj_mlp"),
      norm_q_((scope / "attn.norm_q").upload("weight")),
      norm_k_((scope / "attn.norm_k").upload("weight")),
      proj_out_(scope / "proj_out") {}

ops::ModulatedNorm SingleStreamBlock::norm(const Tensor& modulation) const {
  return norm_for(to_qkv_, modulation_at(modulation, 0, modulation.dim(1) / 3));
}

ops::NormedStream SingleStreamBlock::operator()(
    const ops::NormedStream& x, const Tensor& modulation, const ops::ModulatedNorm& next,
    const ops::Rope& rope, ops::AttentionPrecision precision, std::int64_t first) const {
  const auto rows = [first](const Tensor& t) { return t.slice(1, first, t.dim(1)); };
  const std::int64_t width = x.x.dim(2);
  const Modulation m = modulation_at(modulation, 0, width);
  // Both layers saw the same input in calibration; a checkpoint may still give them two scales.
  const Tensor mlp_in = proj_mlp_.codes() == to_qkv_.codes()
                            ? x.normalized
                            : ops::layer_norm_modulate(x.x, norm_for(proj_mlp_, m));
  const std::array<ops::PackedQkv, 1> packed = {
      ops::PackedQkv{to_qkv_(x.normalized), norm_q_, norm_k_}};
  const auto [q, k, v, v_scale] =
      ops::norm_rope_heads(packed, rope, heads_, kFlux1NormEps, precision);

  // [attended, mlp], each written in its place.
  const std::optional<float> codes = proj_out_.codes();
  const std::int64_t inner = proj_out_.weights().in_features();
  const Shape shape = {x.x.dim(0), x.x.dim(1) - first, inner};
  const Tensor joint = ops::empty_like(x.x, shape, codes ? DType::kF8E4M3 : x.x.dtype());
  attend({rows(q), k, v, v_scale}, {.tensor = joint.slice(-1, 0, width), .e4m3_scale = codes});
  proj_mlp_(rows(mlp_in), {.activation = ops::Activation::kGeluTanh,
                           .out = {.tensor = joint.slice(-1, width, inner), .e4m3_scale = codes}});
  return proj_out_(joint, {.gate = m.gate, .residual = rows(x.x)}, next);
}

}  // namespace dither::models
