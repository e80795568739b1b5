#pragma once

#include <cstdint>
#include <string>

#include "models/flux1/config.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"
#include "ops/ops.h"

namespace dither::models {

/// AdaLN-Zero vectors of one layer (Peebles & Xie 2023), each [B, D]. They depend on the step
/// alone: the transformer makes those of all steps before the first.
struct Modulation {
  Tensor shift;
  Tensor scale;
  Tensor gate;
};

/// Image and text tokens, each [B, L_s, D].
struct Streams {
  ops::NormedStream image;
  ops::NormedStream text;
};

/// A step's vectors of each stream's two layers, each [B, 6 D]: shift, scale, gate of the
/// attention, then of the feed-forward layer.
struct DoubleModulations {
  Tensor image;
  Tensor text;
};

/// With which norms the next block reads the streams.
struct StreamNorms {
  ops::ModulatedNorm image;
  ops::ModulatedNorm text;
};

/// One of the two streams of a double block: everything but the attention itself.
class FluxStream {
 public:
  /// The same layers have other names in each stream.
  struct Names {
    std::string to_q, to_k, to_v, norm_q, norm_k, to_out, feed_forward;
  };
  FluxStream(const nn::WeightScope& block, const Names& names);

  /// The norm with which this layer reads its stream.
  ops::ModulatedNorm norm(const Modulation& attention) const;

  /// Projections of norm(x), written to `out` [B, L_s, 3 D], with the norms that belong to them.
  ops::PackedQkv qkv(const Tensor& normalized, const Tensor& out) const;

  /// y = x + gate out(attended);  y + gate' FF((1 + scale') LN(y) + shift'), and its norm for
  /// whatever reads it.
  ops::NormedStream finish(const Tensor& x, const Tensor& attended, const Modulation& attention,
                           const Modulation& feed_forward, const ops::ModulatedNorm& next) const;

 private:
  nn::Linear to_qkv_;
  Tensor norm_q_;
  Tensor norm_k_;
  nn::Linear to_out_;
  nn::Linear feed_forward_in_;
  nn::Linear feed_forward_out_;
};

/// Two streams with weights of their own that meet in one attention over [text, image].
/// Source: FLUX.1's DoubleStreamBlock (MM-DiT, Esser et al. 2024).
class DoubleStreamBlock {
 public:
  DoubleStreamBlock(const nn::WeightScope& scope, const Flux1Config& config);

  StreamNorms norms(const DoubleModulations& modulations) const;

  /// x normalised as norms() says.
  Streams operator()(const Streams& x, const DoubleModulations& modulations,
                     const StreamNorms& next, const ops::Rope& rope,
                     ops::AttentionPrecision precision) const;

 private:
  std::int64_t heads_;
  FluxStream image_;
  FluxStream text_;
};

/// x + gate W2 [attn(q, k, v), gelu(m)],  [q, k, v, m] = W1 ((1 + scale) LN(x) + shift).
/// Source: FLUX.1's SingleStreamBlock (after Dehghani et al. 2023).
class SingleStreamBlock {
 public:
  SingleStreamBlock(const nn::WeightScope& scope, const Flux1Config& config);

  /// With which norm it reads its stream; `modulation`: one step's [B, 3 D], shift, scale and gate.
  ops::ModulatedNorm norm(const Tensor& modulation) const;

  /// x [B, L, D], text before image, normalised as norm() says. -> the rows of tokens from `first`
  /// on, [B, L - first, D]: nothing reads the last block's text.
  ops::NormedStream operator()(const ops::NormedStream& x, const Tensor& modulation,
                               const ops::ModulatedNorm& next, const ops::Rope& rope,
                               ops::AttentionPrecision precision, std::int64_t first = 0) const;

 private:
  std::int64_t heads_;
  nn::Linear to_qkv_;
  nn::Linear proj_mlp_;
  Tensor norm_q_;
  Tensor norm_k_;
  nn::Linear proj_out_;
};

/// Of every LayerNorm and of the query and key norms.
inline constexpr float kFlux1NormEps = 1e-6F;

}  // namespace dither::models
