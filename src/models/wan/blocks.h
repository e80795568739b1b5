#pragma once

#include <cstdint>

#include "models/flux/modulation.h"
#include "models/wan/config.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"
#include "ops/ops.h"

namespace dither::models {

/// A prompt's keys and values for one block's cross-attention, each [B, L_text, H, D].
struct WanText {
  Tensor k;
  Tensor v;
};

/// k = RMSNorm(W_k c), v = W_v c of the embedded prompt c, the norm over all heads together. They
/// depend on the prompt alone: once a trajectory.
class WanTextProjection {
 public:
  WanTextProjection(const nn::WeightScope& block, const WanConfig& config);

  /// c [B, L_text, D] -> k to keys, v to values, both [B, L_text, D].
  void operator()(const Tensor& c, const Tensor& keys, const Tensor& values) const;

 private:
  nn::Linear to_kv_;
  nn::RmsNorm norm_k_;
};

/// out(softmax(q k^T / sqrt(head_dim)) v),  q = rope(RMSNorm(W_q x)), k = rope(RMSNorm(W_k x)),
/// v = W_v x, the norms over all heads together (attn1).
///
/// FP8 attention takes q and k as codes of themselves. A norm over n channels bounds them by
/// sqrt(n) max |weight|, where that is more than E4M3's 448 the weight is halved until it is not,
/// and the softmax makes up for it: powers of two, so nothing else changes.
class WanSelfAttention {
 public:
  WanSelfAttention(const nn::WeightScope& scope, const WanConfig& config);

  /// In which form it reads (1 + scale) LN(x) + shift.
  ops::ModulatedNorm norm(const Modulation& m) const { return norm_for(to_qkv_, m); }
  /// x [B, L, D], so normalised -> x + gate out(...), and its norm for whatever reads it. A sample
  /// may come in several parts, as [B n, L / n, D]: rope tells its length.
  ops::NormedStream operator()(ops::NormedStream x, const Tensor& gate,
                               const ops::ModulatedNorm& next, const ops::Rope& rope,
                               ops::AttentionPrecision precision) const;

 private:
  std::int64_t heads_;
  float scale_;  ///< of the softmax
  nn::Linear to_qkv_;
  Tensor norm_q_;
  Tensor norm_k_;
  nn::Linear to_out_;
};

/// out(softmax(q k^T / sqrt(head_dim)) v),  q = RMSNorm(W_q y), y = LN(x) w + b (attn2, norm2). Its
/// 512 keys are not worth FP8: it multiplies in the activations' dtype.
class WanCrossAttention {
 public:
  WanCrossAttention(const nn::WeightScope& block, const WanConfig& config);

  /// In which form it reads y: the weights of a LayerNorm are a modulation that no step changes.
  ops::ModulatedNorm norm() const;
  /// x [B, L, D], so normalised -> x + out(...), and its norm for whatever reads it; in parts as
  /// above.
  ops::NormedStream operator()(ops::NormedStream x, const WanText& text,
                               const ops::ModulatedNorm& next) const;

 private:
  std::int64_t heads_;
  Tensor shift_;  ///< [1, D] f32, b
  Tensor scale_;  ///< [1, D] f32, w - 1
  nn::Linear to_q_;
  nn::RmsNorm norm_q_;
  nn::Linear to_out_;
};

/// x' = x + gate_a attn1(modulated x);  x'' = x' + attn2(LN(x') w + b, text);
/// x'' + gate_f W2 gelu(W1 (modulated x'')).  Source: diffusers' WanTransformerBlock.
class WanBlock {
 public:
  WanBlock(const nn::WeightScope& scope, const WanConfig& config);

  /// With which norm it reads its stream; vectors [B, 6 D]: shift, scale, gate of the attention,
  /// then of the feed-forward layer.
  ops::ModulatedNorm norm(const Tensor& vectors) const;

  /// x [B, L, D], normalised as norm() says -> the same, normalised as `next` says; in parts as
  /// above, each with its row of vectors. Moved here, x gives its memory back as soon as it was
  /// read.
  ops::NormedStream operator()(ops::NormedStream x, const Tensor& vectors, const WanText& text,
                               const ops::ModulatedNorm& next, const ops::Rope& rope,
                               ops::AttentionPrecision precision) const;

 private:
  std::int64_t width_;
  WanSelfAttention attn1_;
  WanCrossAttention attn2_;
  nn::Linear ffn_in_;
  nn::Linear ffn_out_;
};

}  // namespace dither::models
