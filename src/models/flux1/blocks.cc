#include "models/flux1/blocks.h"

#include <array>
#include <optional>

namespace dither::models {

Flux1DoubleBlock::Flux1DoubleBlock(const nn::WeightScope& scope, const Flux1Config& config)
    : image_modulation_(scope / "norm1.linear"),
      text_modulation_(scope / "norm1_context.linear"),
      block_(config.num_attention_heads,
             {scope,
              {.to_q = "to_q",
               .to_k = "to_k",
               .to_v = "to_v",
               .norm_q = "norm_q",
               .norm_k = "norm_k",
               .to_out = "to_out.0",
               .feed_forward_in = "ff.net.0.proj",
               .feed_forward_out = "ff.net.2"},
              FeedForward::kGelu},
             {scope,
              {.to_q = "add_q_proj",
               .to_k = "add_k_proj",
               .to_v = "add_v_proj",
               .norm_q = "norm_added_q",
               .norm_k = "norm_added_k",
               .to_out = "to_add_out",
               .feed_forward_in = "ff_context.net.0.proj",
               .feed_forward_out = "ff_context.net.2"},
              FeedForward::kGelu}) {}

Flux1SingleBlock::Flux1SingleBlock(const nn::WeightScope& scope, const Flux1Config& config)
    : heads_(config.num_attention_heads),
      modulation_(scope / "norm.linear"),
      to_qkv_({scope / "attn.to_q", scope / "attn.to_k", scope / "attn.to_v"}),
      proj_mlp_(scope / "proj_mlp"),
      norm_q_((scope / "attn.norm_q").upload("weight")),
      norm_k_((scope / "attn.norm_k").upload("weight")),
      proj_out_(scope / "proj_out") {}

Tensor Flux1SingleBlock::operator()(const Tensor& x, const Tensor& modulation,
                                    const ops::Rope& rope, ops::AttentionPrecision precision,
                                    std::int64_t first) const {
  const auto rows = [first](const Tensor& t) { return t.slice(1, first, t.dim(1)); };
  const std::int64_t width = x.dim(2);
  const Modulation m = modulation_at(modulation, 0, width);
  const Tensor y = modulate(x, m, to_qkv_);
  // Both layers saw the same input in calibration; a checkpoint may still give them two scales.
  const Tensor mlp_in = proj_mlp_.codes() == to_qkv_.codes() ? y : modulate(x, m, proj_mlp_);
  const std::array<ops::PackedQkv, 1> packed = {ops::PackedQkv{to_qkv_(y), norm_q_, norm_k_}};
  const auto [q, k, v, v_scale] =
      ops::norm_rope_heads(packed, rope, heads_, kFluxNormEps, precision);

  // [attended, mlp], each written in its place.
  const std::optional<float> codes = proj_out_.codes();
  const std::int64_t inner = proj_out_.weights().in_features();
  const Shape shape = {x.dim(0), x.dim(1) - first, inner};
  const Tensor joint = ops::empty_like(x, shape, codes ? DType::kF8E4M3 : x.dtype());
  attend({rows(q), k, v, v_scale}, {.tensor = joint.slice(-1, 0, width), .e4m3_scale = codes});
  proj_mlp_(rows(mlp_in), {.activation = ops::Activation::kGeluTanh,
                           .out = {.tensor = joint.slice(-1, width, inner), .e4m3_scale = codes}});
  return proj_out_(joint, {.gate = m.gate, .residual = rows(x)});
}

}  // namespace dither::models
