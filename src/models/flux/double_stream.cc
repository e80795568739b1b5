#include "models/flux/double_stream.h"

#include <array>
#include <optional>
#include <utility>

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

ops::ModulatedNorm FluxStream::norm(const Modulation& attention) const {
  return norm_for(to_qkv_, attention);
}

ops::NormedStream FluxStream::finish(Tensor x, const Tensor& attended, const Modulation& attention,
                                     const Modulation& feed_forward,
                                     const ops::ModulatedNorm& next) const {
  ops::NormedStream y = to_out_(attended, {.gate = attention.gate, .residual = std::move(x)},
                                norm_for(feed_forward_in_, feed_forward));
  const Tensor between = hidden(std::exchange(y.normalized, {}));
  return feed_forward_out_(between, {.gate = feed_forward.gate, .residual = y.x}, next);
}

/// What the second linear layer reads.
Tensor FluxStream::hidden(const Tensor& normalized) const {
  if (kind_ == FeedForward::kSwiGlu) {
    return ops::gated_linear(
        normalized, feed_forward_in_.weights(),
        {.activation = ops::Activation::kSilu, .out = {.e4m3_scale = feed_forward_out_.codes()}});
  }
  return feed_forward_in_(normalized, {.activation = ops::Activation::kGeluTanh,
                                       .out = {.e4m3_scale = feed_forward_out_.codes()}});
}

StreamNorms DoubleStreamBlock::norms(const DoubleModulations& modulations) const {
  const std::int64_t width = modulations.image.dim(1) / 6;
  return {.image = image_.norm(modulation_at(modulations.image, 0, width)),
          .text = text_.norm(modulation_at(modulations.text, 0, width))};
}

Streams DoubleStreamBlock::operator()(Streams x, const DoubleModulations& modulations,
                                      const StreamNorms& next,
                                      const JointAttention& attention) const {
  const std::int64_t width = x.image.x.dim(2);
  const Modulation image_attention = modulation_at(modulations.image, 0, width);
  const Modulation image_mlp = modulation_at(modulations.image, 1, width);
  const Modulation text_attention = modulation_at(modulations.text, 0, width);
  const Modulation text_mlp = modulation_at(modulations.text, 1, width);

  const std::int64_t text_tokens = x.text.x.dim(1);
  const std::int64_t tokens = text_tokens + x.image.x.dim(1);
  const auto text_rows = [&](const Tensor& t) { return t.slice(1, 0, text_tokens); };
  const auto image_rows = [&](const Tensor& t) { return t.slice(1, text_tokens, tokens); };
  // As codes where both readers take codes, each by its own scale.
  const std::optional<float> image_codes = image_.attended_codes();
  const std::optional<float> text_codes = text_.attended_codes();
  ops::Output out;
  std::optional<ops::FirstCodes> first_codes;
  if (image_codes && text_codes) {
    out.e4m3_scale = image_codes;
    first_codes = {.tokens = text_tokens, .e4m3_scale = *text_codes};
  }
  const Tensor attended =
      attend(project_heads(std::array{text_.heads(std::exchange(x.text.normalized, {})),
                                      image_.heads(std::exchange(x.image.normalized, {}))},
                           heads_, attention),
             out, first_codes);
  return {.image = image_.finish(std::move(x.image.x), image_rows(attended), image_attention,
                                 image_mlp, next.image),
          .text = text_.finish(std::move(x.text.x), text_rows(attended), text_attention, text_mlp,
                               next.text)};
}

ops::NormedStream DoubleStreamBlock::image_alone(ops::NormedStream x, const Tensor& modulations,
                                                 const ops::ModulatedNorm& next,
                                                 const JointAttention& attention) const {
  const std::int64_t width = x.x.dim(2);
  const Tensor attended = attend(
      project_heads(std::array{image_.heads(std::exchange(x.normalized, {}))}, heads_, attention),
      {.e4m3_scale = image_.attended_codes()});
  return image_.finish(std::move(x.x), attended, modulation_at(modulations, 0, width),
                       modulation_at(modulations, 1, width), next);
}

DoubleStreamBlock make_double_block(const nn::WeightScope& scope, std::int64_t heads,
                                    const FeedForwardNames& feed_forward) {
  const auto name = [](std::string_view layer, std::string_view leaf) {
    return std::string(layer).append(".").append(leaf);
  };
  return {heads,
          {scope,
           {.to_q = "to_q",
            .to_k = "to_k",
            .to_v = "to_v",
            .norm_q = "norm_q",
            .norm_k = "norm_k",
            .to_out = "to_out.0",
            .feed_forward_in = name("ff", feed_forward.in),
            .feed_forward_out = name("ff", feed_forward.out)},
           feed_forward.kind},
          {scope,
           {.to_q = "add_q_proj",
            .to_k = "add_k_proj",
            .to_v = "add_v_proj",
            .norm_q = "norm_added_q",
            .norm_k = "norm_added_k",
            .to_out = "to_add_out",
            .feed_forward_in = name("ff_context", feed_forward.in),
            .feed_forward_out = name("ff_context", feed_forward.out)},
           feed_forward.kind}};
}

}  // namespace dither::models
