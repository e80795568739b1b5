#pragma once

#include <cstdint>

#include "models/flux/double_stream.h"
#include "models/flux1/config.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"
#include "ops/ops.h"

namespace dither::models {

/// A double block with the modulation layers of its streams.
class Flux1DoubleBlock {
 public:
  Flux1DoubleBlock(const nn::WeightScope& scope, const Flux1Config& config);

  /// silu(temb) [N, B, D] -> of each stream [N, B, 6 D].
  Streams modulations(const Tensor& silu_temb) const {
    return {.image = image_modulation_(silu_temb), .text = text_modulation_(silu_temb)};
  }

  /// `modulations`: one step's, each [B, 6 D].
  Streams operator()(const Streams& x, const Streams& modulations, const ops::Rope& rope,
                     ops::AttentionPrecision precision) const {
    return block_(x, modulations, rope, precision);
  }

 private:
  nn::Linear image_modulation_;
  nn::Linear text_modulation_;
  DoubleStreamBlock block_;
};

/// x + gate W2 [attn(q, k, v), gelu(m)],  [q, k, v, m] = W1 ((1 + scale) LN(x) + shift).
/// Source: FLUX.1's SingleStreamBlock (after Dehghani et al. 2023).
class Flux1SingleBlock {
 public:
  Flux1SingleBlock(const nn::WeightScope& scope, const Flux1Config& config);

  /// silu(temb) [N, B, D] -> [N, B, 3 D]: shift, scale, gate.
  Tensor modulations(const Tensor& silu_temb) const { return modulation_(silu_temb); }

  /// x [B, L, D], text before image; `modulation`: one step's [B, 3 D]. -> the rows of tokens from
  /// `first` on, [B, L - first, D]: nothing reads the last block's text.
  Tensor operator()(const Tensor& x, const Tensor& modulation, const ops::Rope& rope,
                    ops::AttentionPrecision precision, std::int64_t first = 0) const;

 private:
  std::int64_t heads_;
  nn::Linear modulation_;
  nn::Linear to_qkv_;
  nn::Linear proj_mlp_;
  Tensor norm_q_;
  Tensor norm_k_;
  nn::Linear proj_out_;
};

}  // namespace dither::models
