#pragma once

#include <cstdint>
#include <span>

#include "nn/layers.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// Channels of the sinusoidal embeddings of timestep and guidance in the published models.
inline constexpr std::int64_t kSinusoidDim = 256;

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

/// The number that is embedded for a timestep t in 0..1000. The reference divides by 1000 outside
/// of the transformer, multiplies inside and rounds to the model's dtype each time: in bfloat16
/// 753.3 becomes 752, and models are used (and were compared) with that.
float embedded_timestep(float timestep, DType dtype);

/// The same for guidance: 1000 g, where bfloat16 makes 3504 of 3.5.
float embedded_guidance(float guidance_scale, DType dtype);

/// Sinusoidal embedding (Vaswani et al. 2017), cosines first: for each value v and j < h, half of
/// the channels, [cos(v f_j), ..., sin(v f_j), ...], f_j = 10000^(-j / h), all in float32.
/// N values -> [N, channels] f32 in host memory; `channels` is even.
Tensor sinusoidal_embedding(std::span<const float> values, std::int64_t channels = kSinusoidDim);

}  // namespace dither::models
