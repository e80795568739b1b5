#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "models/flux/joint_attention.h"
#include "models/flux/modulation.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"
#include "ops/ops.h"

namespace dither::models {

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

/// The feed-forward layer of a stream.
enum class FeedForward : std::uint8_t {
  kGelu,    ///< W2 gelu(W1 x): FLUX.1
  kSwiGlu,  ///< W2 (silu(a) * b), [a | b] = W1 x (Shazeer 2020): FLUX.2
};

/// One of the two streams of a double block: everything but the attention itself.
class FluxStream {
 public:
  /// The same layers have other names in each stream, and in each family.
  struct Names {
    std::string to_q, to_k, to_v, norm_q, norm_k, to_out, feed_forward_in, feed_forward_out;
  };
  FluxStream(const nn::WeightScope& block, const Names& names, FeedForward kind);

  /// The norm with which this layer reads its stream.
  ops::ModulatedNorm norm(const Modulation& attention) const;

  /// What the attention reads of norm(x).
  ops::HeadProjection heads(const Tensor& normalized) const {
    return {normalized, &to_qkv_.weights(), norm_q_, norm_k_};
  }
  /// By which scale the stream's attention may be codes.
  std::optional<float> attended_codes() const { return to_out_.codes(); }

  /// y = x + gate out(attended);  y + gate' FF((1 + scale') LN(y) + shift'), and its norm for
  /// whatever reads it.
  ops::NormedStream finish(Tensor x, const Tensor& attended, const Modulation& attention,
                           const Modulation& feed_forward, const ops::ModulatedNorm& next) const;

 private:
  Tensor hidden(const Tensor& normalized) const;

  FeedForward kind_;
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
  DoubleStreamBlock(std::int64_t heads, FluxStream image, FluxStream text)
      : heads_(heads), image_(std::move(image)), text_(std::move(text)) {}

  StreamNorms norms(const DoubleModulations& modulations) const;

  /// x normalised as norms() says. Moved here, it gives its memory back as soon as it was read.
  Streams operator()(Streams x, const DoubleModulations& modulations, const StreamNorms& next,
                     const JointAttention& attention) const;

  /// The image's stream without text; `modulations` are its own.
  ops::NormedStream image_alone(ops::NormedStream x, const Tensor& modulations,
                                const ops::ModulatedNorm& next,
                                const JointAttention& attention) const;

 private:
  std::int64_t heads_;
  FluxStream image_;
  FluxStream text_;
};

/// What a family calls the two layers inside of "ff" and "ff_context", and what is between them.
struct FeedForwardNames {
  std::string_view in, out;
  FeedForward kind;
};

/// The double block at `scope`: but for the feed-forward layers, the families' names are the same.
DoubleStreamBlock make_double_block(const nn::WeightScope& scope, std::int64_t heads,
                                    const FeedForwardNames& feed_forward);

}  // namespace dither::models
