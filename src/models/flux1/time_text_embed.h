#pragma once

#include <optional>
#include <span>

#include "models/flux/timestep_embedding.h"
#include "models/flux1/config.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// What all blocks are modulated by: (MLP_t(s(t)) + MLP_g(s(1000 g))) + MLP_text(pooled), with the
/// sinusoid s; distilled guidance enters only where the checkpoint has an embedder for it.
class TimeTextEmbed {
 public:
  TimeTextEmbed(const nn::WeightScope& scope, const Flux1Config& config);

  /// timesteps: N values in 0..1000; guidance_scale is read by guidance-distilled models only,
  /// which need it (kInvalidArgument); pooled [B, pooled_projection_dim] -> [N, B, D].
  Tensor operator()(std::span<const float> timesteps, std::optional<float> guidance_scale,
                    const Tensor& pooled) const;

 private:
  nn::WeightScope scope_;
  EmbedderMlp timestep_embedder_;
  std::optional<EmbedderMlp> guidance_embedder_;
  EmbedderMlp text_embedder_;
};

}  // namespace dither::models
