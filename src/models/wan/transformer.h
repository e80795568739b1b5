#pragma once

#include <cstdint>
#include <vector>

#include "models/flux/timestep_embedding.h"
#include "models/wan/blocks.h"
#include "models/wan/config.h"
#include "models/wan/rope.h"
#include "nn/layer_sequence.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// What one trajectory is conditioned on.
struct WanInputs {
  Tensor prompt_embeds;  ///< [B, L_text, text_dim]; rows past the prompt are zeros, and read
  std::vector<float> timesteps;  ///< of every step, 0..999, whole numbers
  VideoGrid grid = {};
  /// The first latent frame is given, not denoised: its tokens have timestep 0 in every step. B is
  /// 1 then. Source: diffusers' WanImageToVideoPipeline with expand_timesteps.
  bool first_frame_given = false;
};

/// Everything in the forward passes of a trajectory that does not depend on the latents, computed
/// once for all N steps.
struct WanConditioning {
  Tensor text;     ///< [blocks, 2, B, L_text, D], keys and values of the prompt
  ops::Rope rope;  ///< of the video's tokens
  /// [N, B, 7 D] f32: the blocks' 6 D, the output's D. Where the first frame is given [N, 2, 7 D],
  /// a row for it and one for all others.
  Tensor modulations;
  Tensor row_of_frame;  ///< [1, F] kI32, of those two; absent: a row holds for a whole sample

  /// One step's modulations, [B, 7 D] or [2, 7 D].
  Tensor at_step(std::int64_t step) const { return modulations.at(step); }
};

/// The tensors that every step reads.
inline std::vector<Tensor*> fixed_tensors(WanConditioning& conditioning) {
  return {&conditioning.text, &conditioning.rope.cos, &conditioning.rope.sin,
          &conditioning.row_of_frame};
}

/// The Wan video transformer (Alibaba 2025): Wan2.2-A14B's experts, TI2V-5B, Wan2.1-T2V. The
/// residual stream has the activations' dtype, as diffusers has it. Modulations are float32 in any,
/// as there: a norm, its modulation or a gate and the sum round once. Where frames have timesteps
/// of their own the stream is [F, L / F, D], since modulations have a row for each sample, and only
/// attention sees the frames as one.
class WanTransformer {
 public:
  /// `config` was validated and the checkpoint checked against wan_table().
  WanTransformer(const nn::WeightScope& scope, const WanConfig& config);

  /// temb = MLP(s(t)) in float32, with the sinusoid s of the step's timestep; modulations are
  /// time_proj(silu(temb)) and temb. Throws kInvalidArgument for inputs that do not fit the config.
  WanConditioning prepare(const WanInputs& inputs) const;

  /// Velocity (noise - data) at the step whose `modulations` (at_step()) are given; those of the
  /// conditioning are not read. latents [B, L, 4 C_in]: token by token in VideoGrid's order,
  /// channel c of latent (dy, dx) of its patch at (2 dy + dx) C + c -> [B, L, 4 C_out], likewise.
  Tensor velocity(const Tensor& latents, const WanConditioning& conditioning,
                  const Tensor& modulations,
                  ops::AttentionPrecision precision = ops::AttentionPrecision::kActivations) const;
  /// The same at step `step` of the conditioning's timesteps.
  Tensor velocity(const Tensor& latents, const WanConditioning& conditioning,
                  std::int64_t step) const {
    return velocity(latents, conditioning, conditioning.at_step(step));
  }

  const WanConfig& config() const { return config_; }

 private:
  void check(const WanInputs& inputs) const;
  Tensor vectors(const std::vector<float>& timesteps) const;
  Tensor modulations(const WanInputs& inputs) const;
  Tensor text(const Tensor& prompt_embeds) const;
  WanText text_of(const WanConditioning& conditioning, std::int64_t block) const;

  WanConfig config_;
  ops::Backend* backend_;
  DType dtype_;
  nn::Linear patch_embedding_;
  EmbedderMlp time_embedder_;  ///< in float32
  nn::Linear time_proj_;
  nn::Linear text_in_;
  nn::Linear text_out_;
  nn::LayerSequence text_layers_;
  std::vector<WanTextProjection> text_projections_;
  nn::LayerSequence block_layers_;
  std::vector<WanBlock> blocks_;
  Tensor block_tables_;  ///< [blocks, 6 D] f32
  Tensor out_table_;     ///< [2, D] f32, shift and scale
  nn::Linear proj_out_;
};

}  // namespace dither::models
