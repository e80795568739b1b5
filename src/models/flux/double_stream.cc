#include "models/flux/double_stream.h"

#include <array>

namespace dither::models {

FluxStream::FluxStream(const nn::WeightScope& block, const Names& names, FeedForward kind)
    : kind_(kind),
      to_qkv_(
          {block / "attn" / names.to_q, block / "attn" / names.to_k, block / "attn" / names.to_v}),
      norm_q_((block / "attn" / names.norm_q).upload("weight")),
      norm_k_((block / "attn" / names.norm_k).upload("weight")),
      to_out_(block / "attn" / names.to_out),
      feed_forward_in_(block / names.feed_forward_in),
      feed_forward_out_(block / names.feed_forward_out) {}

ops::PackedQkv FluxStream::qkv(const Tensor& x, const Modulation& attention,
                               const Tensor& out) const {
  return {to_qkv_(modulate(x, attention, to_qkv_), {.out = {.tensor = out}}), norm_q_, norm_k_};
}

Tensor FluxStream::finish(const Tensor& x, const Tensor& attended, const Modulation& attention,
                          const Modulation& feed_forward) const {
  const Tensor y = to_out_(attended, {.gate = attention.gate, .residual = x});
  return feed_forward_out_(hidden(y, feed_forward), {.gate = feed_forward.gate, .residual = y});
}

/// What the second linear layer reads.
Tensor FluxStream::hidden(const Tensor& y, const Modulation& feed_forward) const {
  const Tensor x = modulate(y, feed_forward, feed_forward_in_);
  if (kind_ == FeedForward::kSwiGlu) {
    return ops::gated_activation(feed_forward_in_(x), ops::Activation::kSilu);
  }
  return feed_forward_in_(x, {.activation = ops::Activation::kGeluTanh,
                              .out = {.e4m3_scale = feed_forward_out_.codes()}});
}

Streams DoubleStreamBlock::operator()(const Streams& x, const Streams& modulations,
                                      const ops::Rope& rope,
                                      ops::AttentionPrecision precision) const {
  const std::int64_t width = x.image.dim(2);
  const Modulation image_attention = modulation_at(modulations.image, 0, width);
  const Modulation image_mlp = modulation_at(modulations.image, 1, width);
  const Modulation text_attention = modulation_at(modulations.text, 0, width);
  const Modulation text_mlp = modulation_at(modulations.text, 1, width);

  const std::int64_t text_tokens = x.text.dim(1);
  const std::int64_t tokens = text_tokens + x.image.dim(1);
  const auto text_rows = [&](const Tensor& t) { return t.slice(1, 0, text_tokens); };
  const auto image_rows = [&](const Tensor& t) { return t.slice(1, text_tokens, tokens); };
  // Side by side, so that the attention can read the projections where they are.
  const Tensor joint = ops::empty_like(x.image, {x.image.dim(0), tokens, 3 * width});
  const std::array<ops::PackedQkv, 2> streams = {
      text_.qkv(x.text, text_attention, text_rows(joint)),
      image_.qkv(x.image, image_attention, image_rows(joint))};
  const Tensor attended =
      attend(ops::norm_rope_heads(streams, rope, heads_, kFluxNormEps, precision));
  const Tensor text = text_rows(attended);
  const Tensor image = image_rows(attended);
  return {.image = image_.finish(x.image, image, image_attention, image_mlp),
          .text = text_.finish(x.text, text, text_attention, text_mlp)};
}

}  // namespace dither::models
