#include "models/vae/wan_blocks.h"

#include <cmath>
#include <utility>

#include "nn/attention.h"

namespace dither::models {

WanResnet::WanResnet(const nn::WeightScope& scope)
    : norm1_(scope / "norm1", ops::Activation::kSilu),
      conv1_(scope / "conv1"),
      norm2_(scope / "norm2", ops::Activation::kSilu),
      conv2_(scope / "conv2") {
  if (scope.has("conv_shortcut.weight")) conv_shortcut_.emplace(scope / "conv_shortcut");
}

Tensor WanResnet::operator()(Tensor x, CausalHistory& history) const {
  const Tensor shortcut = conv_shortcut_ ? (*conv_shortcut_)(x) : x;
  return conv2_(conv1_(std::move(x), norm1_, history), norm2_, history, shortcut);
}

WanFrameAttention::WanFrameAttention(const nn::WeightScope& scope)
    : norm_(scope / "norm"), to_qkv_(scope / "to_qkv"), proj_(scope / "proj") {}

Tensor WanFrameAttention::operator()(const Tensor& x) const {
  const Shape tokens = {x.dim(1), x.dim(2) * x.dim(3), x.dim(4)};
  const auto qkv = nn::split_heads(to_qkv_(norm_(x).reshape(tokens)), 1);
  const float scale = 1.0F / std::sqrt(static_cast<float>(x.dim(4)));
  const Tensor attended = ops::attention(qkv, {.scale = scale});
  return proj_(attended, {.residual = x.reshape(tokens)}).reshape(x.shape());
}

WanMidBlock::WanMidBlock(const nn::WeightScope& scope)
    : first_(scope / "resnets" / 0),
      attention_(scope / "attentions" / 0),
      second_(scope / "resnets" / 1) {}

Tensor WanMidBlock::operator()(Tensor x, CausalHistory& history) const {
  return second_(attention_(first_(std::move(x), history)), history);
}

}  // namespace dither::models
