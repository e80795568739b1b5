#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "models/flux/conditioning.h"
#include "models/flux/rope.h"
#include "models/flux1/blocks.h"
#include "models/flux1/config.h"
#include "models/flux1/time_text_embed.h"
#include "nn/layer_sequence.h"
#include "nn/layers.h"

namespace dither::models {

/// What one trajectory is conditioned on.
struct Flux1Inputs {
  Tensor prompt_embeds;                 ///< [B, L_text, joint_attention_dim], T5's
  Tensor pooled_prompt_embeds;          ///< [B, pooled_projection_dim], CLIP's
  std::vector<float> timesteps;         ///< of every step, 0..1000
  std::optional<float> guidance_scale;  ///< needed by guidance-distilled models, else not read
  TokenGrid grid;                       ///< the picture in tokens
};

/// FLUX.1's rectified flow transformer (Black Forest Labs 2024; Esser et al. 2024).
class Flux1Transformer {
 public:
  /// `config` was validated and the checkpoint checked against flux1_table().
  Flux1Transformer(const nn::WeightScope& scope, const Flux1Config& config);

  /// Modulations: of each double block image 6 D, text 6 D; of each single block 3 D; of the output
  /// 2 D, scale before shift. They are a quarter of FLUX.1's parameters. Throws kInvalidArgument
  /// for inputs that do not fit the config.
  FluxConditioning prepare(const Flux1Inputs& inputs) const;

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

  const Flux1Config& config() const { return config_; }

 private:
  Flux1Config config_;
  ops::Backend* backend_;
  nn::Linear x_embedder_;
  nn::Linear context_embedder_;
  TimeTextEmbed time_text_embed_;
  nn::LayerSequence modulation_layers_;
  std::vector<nn::Linear> modulations_;  ///< in the order of FluxConditioning::modulations
  nn::LayerSequence blocks_;             ///< the double, then the single ones
  std::vector<DoubleStreamBlock> double_blocks_;
  std::vector<Flux1SingleBlock> single_blocks_;
  nn::Linear proj_out_;
};

}  // namespace dither::models
