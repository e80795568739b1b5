#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "models/flux/conditioning.h"
#include "models/flux/double_stream.h"
#include "models/flux/rope.h"
#include "models/flux/timestep_embedding.h"
#include "models/flux2/config.h"
#include "nn/layer_sequence.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// z + gate W2 [attn(q, k, v), silu(a) * b],  [q, k, v, a, b] = W1 ((1 + scale) LN(z) + shift).
/// Source: diffusers' Flux2SingleTransformerBlock, Flux2ParallelSelfAttention.
class Flux2SingleBlock {
 public:
  Flux2SingleBlock(const nn::WeightScope& scope, const Flux2Config& config);

  /// With which norm it reads its stream.
  ops::ModulatedNorm norm(const Modulation& m) const { return norm_for(to_qkv_mlp_proj_, m); }

  /// z [B, L, D], text before image, normalised as norm() says. -> the rows of tokens [first, end),
  /// [B, end - first, D]: of the last block only the picture is read.
  ops::NormedStream operator()(ops::NormedStream z, const Modulation& m,
                               const ops::ModulatedNorm& next, const JointAttention& attention,
                               std::int64_t first, std::int64_t end) const;

 private:
  std::int64_t heads_;
  std::int64_t mlp_width_;
  nn::Linear to_qkv_mlp_proj_;
  Tensor norm_q_;
  Tensor norm_k_;
  nn::Linear to_out_;
};

/// MLP_t(s(t)) + MLP_g(s(1000 g)) with the sinusoid s; guidance enters only where the checkpoint
/// has an embedder for it. Source: diffusers' Flux2TimestepGuidanceEmbeddings.
class TimeGuidanceEmbed {
 public:
  TimeGuidanceEmbed(const nn::WeightScope& scope, const Flux2Config& config);

  /// timesteps: N values in 0..1000; guidance_scale is read by guidance-distilled models only,
  /// which need it (kInvalidArgument) -> [N, D].
  Tensor operator()(std::span<const float> timesteps, std::optional<float> guidance_scale) const;

 private:
  nn::WeightScope scope_;
  std::int64_t channels_;
  EmbedderMlp timestep_embedder_;
  std::optional<EmbedderMlp> guidance_embedder_;
};

/// What one trajectory is conditioned on.
struct Flux2Inputs {
  Tensor prompt_embeds;                      ///< [B, L_text, joint_attention_dim]
  std::vector<float> timesteps;              ///< of every step, 0..1000
  std::optional<float> guidance_scale = {};  ///< needed by guidance-distilled models, else not read
  TokenGrid grid = {};                       ///< the picture in tokens
  std::vector<TokenGrid> reference_grids = {};
  Tensor reference = {};  ///< [B, sum of reference_grids, in_channels]; absent without references
  /// References see only each other, at timestep 0, and so are the same in every step: their keys
  /// and values are computed once. What klein-9b-kv was trained for.
  bool references_once = false;
};

/// FLUX.2's rectified flow transformer (Black Forest Labs 2025), dev and klein.
class Flux2Transformer {
 public:
  /// `config` was validated and the checkpoint checked against flux2_table().
  Flux2Transformer(const nn::WeightScope& scope, const Flux2Config& config);

  /// Modulations, which all blocks share: image 6 D, text 6 D, single blocks 3 D, output 2 D (scale
  /// before shift). Throws kInvalidArgument for inputs that do not fit the config.
  FluxConditioning prepare(const Flux2Inputs& inputs) const;

  /// Velocity (noise - data) at the step whose `modulations` [B, M] are given; those of the
  /// conditioning are not read. latents [B, L_image, in_channels], packed -> the same shape.
  Tensor velocity(const Tensor& latents, const FluxConditioning& conditioning,
                  const Tensor& modulations,
                  ops::AttentionPrecision precision = ops::AttentionPrecision::kActivations) const;
  /// The same at step `step` of the conditioning's timesteps.
  Tensor velocity(const Tensor& latents, const FluxConditioning& conditioning,
                  std::int64_t step) const {
    return velocity(latents, conditioning, conditioning.at_step(step));
  }

  const Flux2Config& config() const { return config_; }

 private:
  Tensor vectors(std::span<const float> timesteps, std::optional<float> guidance_scale,
                 std::int64_t samples) const;
  Tensor reference_keys(const Flux2Inputs& inputs) const;

  Flux2Config config_;
  ops::Backend* backend_;
  nn::Linear x_embedder_;
  nn::Linear context_embedder_;
  TimeGuidanceEmbed time_guidance_embed_;
  nn::Linear double_stream_modulation_img_;
  nn::Linear double_stream_modulation_txt_;
  nn::Linear single_stream_modulation_;
  nn::LayerSequence blocks_;  ///< the double, then the single ones
  std::vector<DoubleStreamBlock> double_blocks_;
  std::vector<Flux2SingleBlock> single_blocks_;
  nn::Linear norm_out_;
  nn::Linear proj_out_;
};

}  // namespace dither::models
