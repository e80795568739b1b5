#include "models/flux/timestep_embedding.h"

#include <cmath>

#include "tensor/bfloat16.h"

namespace dither::models {
namespace {

float round_to(float value, DType dtype) {
  return dtype == DType::kBF16 ? round_to_bf16(value) : value;
}

}  // namespace

float embedded_timestep(float timestep, DType dtype) {
  const float fraction = round_to(round_to(timestep, dtype) / 1000.0F, dtype);
  return round_to(fraction * 1000.0F, dtype);
}

float embedded_guidance(float guidance_scale, DType dtype) {
  return round_to(round_to(guidance_scale, dtype) * 1000.0F, dtype);
}

Tensor sinusoidal_embedding(std::span<const float> values, std::int64_t channels) {
  const std::int64_t half = channels / 2;
  constexpr float kMaxPeriod = 10000.0F;
  Tensor embedding =
      Tensor::host({static_cast<std::int64_t>(values.size()), channels}, DType::kF32);
  auto* row = embedding.data<float>();
  for (const float value : values) {
    for (std::int64_t j = 0; j < half; ++j) {
      const float exponent =
          -std::log(kMaxPeriod) * static_cast<float>(j) / static_cast<float>(half);
      const float angle = value * std::exp(exponent);
      row[j] = std::cos(angle);
      row[half + j] = std::sin(angle);
    }
    row += channels;
  }
  return embedding;
}

}  // namespace dither::models
