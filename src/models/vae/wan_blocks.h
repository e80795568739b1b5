#pragma once

#include <optional>

#include "models/vae/causal_conv.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// shortcut(x) + conv2(silu(norm2(conv1(silu(norm1 x))))), causal 3 x 3 x 3 convolutions; the
/// shortcut is a 1 x 1 x 1 convolution where the number of channels changes.
/// [1, f, h, w, C_in] -> [1, f, h, w, C_out].
class WanResnet {
 public:
  explicit WanResnet(const nn::WeightScope& scope);
  /// Of an x that nobody else holds nothing is left when its last reader has read it: at full
  /// resolution that is most of what a decoder takes. So it is in all that follows.
  Tensor operator()(Tensor x, CausalHistory& history) const;

 private:
  nn::ChannelNorm norm1_;
  CausalConv3d conv1_;
  nn::ChannelNorm norm2_;
  CausalConv3d conv2_;
  std::optional<nn::Linear> conv_shortcut_;  ///< a linear layer over the pixels
};

/// x + proj(attn(norm x)) over the pixels of each frame by itself, with one head as wide as the
/// frames have channels.  [1, f, h, w, C] -> the same.
class WanFrameAttention {
 public:
  explicit WanFrameAttention(const nn::WeightScope& scope);
  Tensor operator()(const Tensor& x) const;

 private:
  nn::ChannelNorm norm_;
  nn::Linear to_qkv_;
  nn::Linear proj_;
};

/// resnet, attention, resnet at the lowest resolution.
class WanMidBlock {
 public:
  explicit WanMidBlock(const nn::WeightScope& scope);
  Tensor operator()(Tensor x, CausalHistory& history) const;

 private:
  WanResnet first_;
  WanFrameAttention attention_;
  WanResnet second_;
};

}  // namespace dither::models
