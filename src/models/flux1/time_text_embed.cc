#include "models/flux1/time_text_embed.h"

#include <array>
#include <vector>

#include "base/error.h"

namespace dither::models {

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

}  // namespace dither::models
