#include "models/flux1/time_text_embed.h"

#include <array>
#include <cmath>

#include "base/error.h"
#include "tensor/bfloat16.h"

namespace dither::models {
namespace {

float round_to(float value, DType dtype) {
  return dtype == DType::kBF16 ? round_to_bf16(value) : value;
}

}  // namespace

TimeTextEmbed::TimeTextEmbed(const nn::WeightScope& scope, const Flux1Config& config)
    : scope_(scope),
      timestep_embedder_(scope / "timestep_embedder"),
      text_embedder_(scope / "text_embedder") {
  if (config.guidance_embeds) guidance_embedder_.emplace(scope / "guidance_embedder");
}

Tensor TimeTextEmbed::operator()(std::span<const float> timesteps,
                                 std::optional<float> guidance_scale, const Tensor& pooled) const {
  const auto sinusoid = [&](std::span<const float> values) {
    return scope_.backend().upload(sinusoidal_embedding(values), scope_.dtype());
  };
  const auto steps = static_cast<std::int64_t>(timesteps.size());
  const std::int64_t batch = pooled.dim(0);
  const Tensor text = text_embedder_(pooled);  // [B, D]

  // Each step's row once per sample, so that the sums below broadcast over leading dimensions only.
  std::vector<float> values;
  for (const float timestep : timesteps) {
    values.insert(values.end(), static_cast<std::size_t>(batch),
                  embedded_timestep(timestep, scope_.dtype()));
  }
  Tensor embedding = timestep_embedder_(sinusoid(values)).reshape({steps, batch, text.dim(1)});
  if (guidance_embedder_) {
    if (!guidance_scale) {
      throw Error(ErrorCode::kInvalidArgument,
                  "guidance_scale is missing: this FLUX.1 model is guidance-distilled");
    }
    const std::array<float, 1> guidance = {embedded_guidance(*guidance_scale, scope_.dtype())};
    embedding =
        ops::add(embedding, (*guidance_embedder_)(sinusoid(guidance)).reshape({text.dim(1)}));
  }
  return ops::add(embedding, text);
}

float embedded_timestep(float timestep, DType dtype) {
  const float fraction = round_to(round_to(timestep, dtype) / 1000.0F, dtype);
  return round_to(fraction * 1000.0F, dtype);
}

float embedded_guidance(float guidance_scale, DType dtype) {
  return round_to(round_to(guidance_scale, dtype) * 1000.0F, dtype);
}

Tensor sinusoidal_embedding(std::span<const float> values) {
  constexpr std::int64_t kHalf = kFlux1SinusoidDim / 2;
  constexpr float kMaxPeriod = 10000.0F;
  Tensor embedding =
      Tensor::host({static_cast<std::int64_t>(values.size()), kFlux1SinusoidDim}, DType::kF32);
  auto* row = embedding.data<float>();
  for (const float value : values) {
    for (std::int64_t j = 0; j < kHalf; ++j) {
      const float exponent = -std::log(kMaxPeriod) * static_cast<float>(j) / kHalf;
      const float angle = value * std::exp(exponent);
      row[j] = std::cos(angle);
      row[kHalf + j] = std::sin(angle);
    }
    row += kFlux1SinusoidDim;
  }
  return embedding;
}

}  // namespace dither::models
