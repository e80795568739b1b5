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

Tensor element(const Tensor& tensor, std::size_t index) {
  if (!tensor.defined()) return {};
  const Shape whole = tensor.shape();
  const auto first = static_cast<std::int64_t>(index);
  return tensor.slice(0, first, first + 1)
      .reshape(Shape(std::span(whole.begin() + 1, whole.end())));
}

ops::AttentionOperands project_heads(std::span<const ops::HeadProjection> streams,
                                     std::int64_t heads, const JointAttention& attention) {
  const bool others = attention.others.defined();
  ops::AttentionOperands qkv =
      ops::project_heads(streams, attention.rope, heads, kFluxNormEps,
                         others ? ops::AttentionPrecision::kActivations : attention.precision);
  if (attention.kept.defined()) {
    ops::copy(qkv.k, element(attention.kept, 0));
    ops::copy(qkv.v, element(attention.kept, 1));
  }
  if (others) {
    qkv.k = ops::concat({qkv.k, element(attention.others, 0)}, 1);
    qkv.v = ops::concat({qkv.v, element(attention.others, 1)}, 1);
  }
  return qkv;
}

}  // namespace dither::models
