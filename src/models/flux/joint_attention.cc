#include "models/flux/joint_attention.h"

#include <cmath>

#include "models/flux/modulation.h"

namespace dither::models {
namespace {

/// Keys (0) or values (1) of [2, B, L, H, D].
Tensor part(const Tensor& both, std::int64_t which) {
  return both.slice(0, which, which + 1)
      .reshape({both.dim(1), both.dim(2), both.dim(3), both.dim(4)});
}

}  // namespace

Tensor attend(const ops::AttentionOperands& qkv, const ops::Output& out) {
  const auto head_dim = static_cast<float>(qkv.q.dim(-1));
  return ops::attention(qkv, {.scale = 1.0F / std::sqrt(head_dim), .out = out});
}

ops::AttentionOperands project_heads(std::span<const ops::HeadProjection> streams,
                                     std::int64_t heads, const JointAttention& attention) {
  const bool others = attention.others.defined();
  ops::AttentionOperands qkv =
      ops::project_heads(streams, attention.rope, heads, kFluxNormEps,
                         others ? ops::AttentionPrecision::kActivations : attention.precision);
  if (attention.kept.defined()) {
    ops::copy(qkv.k, part(attention.kept, 0));
    ops::copy(qkv.v, part(attention.kept, 1));
  }
  if (others) {
    qkv.k = ops::concat({qkv.k, part(attention.others, 0)}, 1);
    qkv.v = ops::concat({qkv.v, part(attention.others, 1)}, 1);
  }
  return qkv;
}

}  // namespace dither::models
