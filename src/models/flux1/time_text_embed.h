#pragma once

#include <optional>
#include <span>
#include <vector>

#include "models/flux1/config.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// linear_2(silu(linear_1(x))).  [..., in] -> [..., D].
class EmbedderMlp {
 public:
  explicit EmbedderMlp(const nn::WeightScope& scope)
      : linear_1_(scope / "linear_1"), linear_2_(scope / "linear_2") {}
  Tensor operator()(const Tensor& x) const {
    return linear_2_(linear_1_(x, ops::Activation::kSilu));
  }

 private:
  nn::Linear linear_1_;
  nn::Linear linear_2_;
};

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

/// The number that is embedded for a timestep t in 0..1000. The reference divides by 1000 outside
/// of the transformer, multiplies inside and rounds to the model's dtype each time: in bfloat16
/// 753.3 becomes 752, and models are used (and were compared) with that.
float embedded_timestep(float timestep, DType dtype);

/// The same for guidance: 1000 g, where bfloat16 makes 3504 of 3.5.
float embedded_guidance(float guidance_scale, DType dtype);

/// Sinusoidal embedding (Vaswani et al. 2017), cosines first: for each value v and j < 128
/// [cos(v f_j), ..., sin(v f_j), ...], f_j = 10000^(-j / 128), all in float32.  N values ->
/// [N, kFlux1SinusoidDim] f32 in host memory.
Tensor sinusoidal_embedding(std::span<const float> values);

}  // namespace dither::models
