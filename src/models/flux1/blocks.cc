#include "models/flux1/blocks.h"

#include <array>
#include <optional>
#include <utility>

namespace dither::models {

Flux1SingleBlock::Flux1SingleBlock(const nn::WeightScope& scope, const Flux1Config& config)
    : heads_(config.num_attention_heads),
      to_qkv_({scope / "attn.to_q", scope / "attn.to_k", scope / "attn.to_v"}),
      proj_mlp_(scope / "proj_mlp"),
      norm_q_((scope / "attn.norm_q").upload("weight")),
      norm_k_((scope / "attn.norm_k").upload("weight")),
      proj_out_(scope / "proj_out") {}

ops::NormedStream Flux1SingleBlock::operator()(ops::NormedStream x, const Modulation& m,
                                               const ops::ModulatedNorm& next,
                                               const JointAttention& attention, std::int64_t first,
                                               std::int64_t end) const {
  const auto rows = [&](const Tensor& t) { return t.slice(1, first, end); };
  const std::int64_t width = x.x.dim(2);
  // Both layers saw the same input in calibration; a checkpoint may still give them two scales.
  Tensor mlp_in = proj_mlp_.codes() == to_qkv_.codes()
                      ? x.normalized
                      : ops::layer_norm_modulate(x.x, norm_for(proj_mlp_, m));
  ops::AttentionOperands qkv =
      project_heads(std::array{ops::HeadProjection{std::exchange(x.normalized, {}),
                                                   &to_qkv_.weights(), norm_q_, norm_k_}},
                    heads_, attention);
  qkv.q = rows(qkv.q);

  // [attended, mlp], each written in its place.
  const std::optional<float> codes = proj_out_.codes();
  const std::int64_t inner = proj_out_.weights().in_features();
  const Shape shape = {x.x.dim(0), end - first, inner};
  const Tensor joint = ops::empty_like(x.x, shape, codes ? DType::kF8E4M3 : x.x.dtype());
  attend(std::exchange(qkv, {}), {.tensor = joint.slice(-1, 0, width), .e4m3_scale = codes});
  proj_mlp_(rows(std::exchange(mlp_in, {})),
            {.activation = ops::Activation::kGeluTanh,
             .out = {.tensor = joint.slice(-1, width, inner), .e4m3_scale = codes}});
  return proj_out_(joint, {.gate = m.gate, .residual = rows(x.x)}, next);
}

}  // namespace dither::models
