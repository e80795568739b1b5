#include "models/vae/blocks.h"

#include <cmath>
#include <utility>

#include "nn/attention.h"

namespace dither::models {

VaeResnet::VaeResnet(const nn::WeightScope& scope, int groups)
    : norm1_(scope / "norm1", groups, kVaeNormEps, ops::Activation::kSilu),
      conv1_(nn::Conv2d::same(scope / "conv1", 3)),
      norm2_(scope / "norm2", groups, kVaeNormEps, ops::Activation::kSilu),
      conv2_(nn::Conv2d::same(scope / "conv2", 3)) {
  if (scope.has("conv_shortcut.weight")) conv_shortcut_.emplace(scope / "conv_shortcut");
}

Tensor VaeResnet::operator()(Tensor x) const {
  Tensor y = norm1_(x);
  y = conv1_(y);
  y = norm2_(y);
  if (conv_shortcut_) x = (*conv_shortcut_)(x);  // last, when the widest of the others are gone
  return conv2_(y, x);
}

VaeAttention::VaeAttention(const nn::WeightScope& scope, int groups)
    : group_norm_(scope / "group_norm", groups, kVaeNormEps),
      to_qkv_(scope.has("to_q.weight")
                  ? nn::Linear({scope / "to_q", scope / "to_k", scope / "to_v"})
                  : nn::Linear({scope / "query", scope / "key", scope / "value"})),
      to_out_(scope / (scope.has("to_out.0.weight") ? "to_out.0" : "proj_attn")) {}

Tensor VaeAttention::operator()(const Tensor& x) const {
  const Shape tokens = {x.dim(0), x.dim(1) * x.dim(2), x.dim(3)};
  const auto qkv = nn::split_heads(to_qkv_(group_norm_(x).reshape(tokens)), 1);
  const float scale = 1.0F / std::sqrt(static_cast<float>(x.dim(3)));
  const Tensor attended = ops::attention(qkv, {.scale = scale});
  return to_out_(attended, {.residual = x.reshape(tokens)}).reshape(x.shape());
}

VaeMidBlock::VaeMidBlock(const nn::WeightScope& scope, int groups)
    : first_(scope / "resnets" / 0, groups), second_(scope / "resnets" / 1, groups) {
  if (scope.has("attentions.0.group_norm.weight")) {
    attention_.emplace(scope / "attentions" / 0, groups);
  }
}

Tensor VaeMidBlock::operator()(Tensor x) const {
  x = first_(std::move(x));
  if (attention_) x = (*attention_)(x);
  return second_(std::move(x));
}

}  // namespace dither::models
