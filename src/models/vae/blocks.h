#pragma once

#include <cstdint>
#include <optional>

#include "nn/layers.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// Of every GroupNorm in AutoencoderKL.
inline constexpr float kVaeNormEps = 1e-6F;

/// shortcut(x) + conv2(silu(GN(conv1(silu(GN x))))); the shortcut is a 1 x 1 convolution where the
/// number of channels changes.  [B, h, w, C_in] -> [B, h, w, C_out]. Moved here, x gives its memory
/// back as soon as it was read.
class VaeResnet {
 public:
  VaeResnet(const nn::WeightScope& scope, int groups);
  Tensor operator()(Tensor x) const;

 private:
  nn::GroupNorm norm1_;
  nn::Conv2d conv1_;
  nn::GroupNorm norm2_;
  nn::Conv2d conv2_;
  std::optional<nn::Linear> conv_shortcut_;  ///< 1 x 1: a linear layer over the pixels
};

/// x + out(attn(GN x)) over all pixels with one head as wide as the image has channels.
/// [B, h, w, C] -> the same.
class VaeAttention {
 public:
  VaeAttention(const nn::WeightScope& scope, int groups);
  Tensor operator()(const Tensor& x) const;

 private:
  nn::GroupNorm group_norm_;
  nn::Linear to_qkv_;
  nn::Linear to_out_;
};

/// resnet, attention (where the model has it), resnet at the lowest resolution.
class VaeMidBlock {
 public:
  VaeMidBlock(const nn::WeightScope& scope, int groups);
  Tensor operator()(Tensor x) const;

 private:
  VaeResnet first_;
  std::optional<VaeAttention> attention_;
  VaeResnet second_;
};

}  // namespace dither::models
