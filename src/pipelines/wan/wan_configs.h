#pragma once

#include <optional>

#include "io/json_config.h"
#include "io/model_folder.h"
#include "models/text/t5_encoder.h"
#include "models/vae/wan_config.h"
#include "models/wan/config.h"
#include "pipelines/wan/wan_request.h"
#include "schedulers/unipc.h"

namespace dither {

/// diffusers' component configs as the models' own structs, validated; errors as
/// pipelines/component_configs.h says.
models::WanConfig parse_wan_config(const JsonConfig& json);
models::WanVaeConfig parse_wan_vae_config(const JsonConfig& json);

/// The configs of all components of a WanPipeline or a WanImageToVideoPipeline, and its own
/// settings.
struct WanConfigs {
  models::WanConfig transformer;  ///< the only one, or the expert for high noise
  /// The expert for low noise: it takes the steps at timesteps below boundary_ratio times
  /// num_train_timesteps. Both or neither are there.
  std::optional<models::WanConfig> transformer_2;
  std::optional<double> boundary_ratio;
  models::T5Config text_encoder;
  models::WanVaeConfig vae;
  schedulers::UniPcConfig scheduler;
  PictureInput picture = PictureInput::kNone;

  std::int64_t latent_channels() const { return transformer.latent_channels(); }
  /// Of the mask beside a picture's latents: one for each frame that a latent frame stands for.
  std::int64_t mask_channels() const { return vae.scale_factor_temporal; }
  /// Pixels along a token's side.
  std::int64_t patch() const { return vae.scale_factor_spatial * transformer.patch_size[1]; }
};

/// Reads every component's config and checks that they fit each other: latent channels, what a
/// picture adds to them, the width of the prompt's embedding, both experts. Throws kUnsupported
/// when model_index.json names another class for a component, kDataLoss naming the two keys that
/// contradict each other or a boundary_ratio outside of (0, 1), and like the parsers.
WanConfigs load_wan_configs(const ModelFolder& folder);

/// What the authors suggest for the variant that these configs describe.
WanSuggestions suggest(const WanConfigs& configs);

}  // namespace dither
