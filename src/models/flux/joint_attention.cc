#include "models/flux/joint_attention.h"

#include <cmath>

#include "models/flux/modulation.h"

namespace dither::models {

Tensor attend(const ops::AttentionOperands& qkv, const ops::Output& out,
              const std::optional<ops::FirstCodes>& first_codes) {
  const auto head_dim = static_cast<float>(qkv.q.dim(-1));
  return ops::attention(
      qkv, {.scale = 1.0F / std::sqrt(head_dim), .out = out, .first_codes = first_codes});
}

ops::AttentionOperands project_heads(std::span<const ops::HeadProjection> streams,
                                     std::int64_t heads, const JointAttention& attention) {
  const bool others = attention.others.defined();
  ops::AttentionOperands qkv =
      ops::project_heads(streams, attention.rope, heads, kFluxNormEps,
                         others ? ops::AttentionPrecision::kActivations : attention.precision);
  if (attention.kept.defined()) {
    ops::copy(qkv.k, attention.kept.at(0));
    ops::copy(qkv.v, attention.kept.at(1));
  }
  if (others) {
    qkv.k = ops::concat({qkv.k, attention.others.at(0)}, 1);
    qkv.v = ops::concat({qkv.v, attention.others.at(1)}, 1);
  }
  return qkv;
}

}  // namespace dither::models
