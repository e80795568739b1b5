#pragma once

#include "io/json_config.h"
#include "io/model_folder.h"
#include "models/flux1/config.h"
#include "models/text/clip_text.h"
#include "models/vae/autoencoder_kl.h"
#include "pipelines/component_configs.h"
#include "pipelines/t5_configs.h"
#include "schedulers/flow_match.h"

namespace dither {

/// diffusers' and transformers' component configs as the models' own structs, validated. A known
/// key with a value that Dither does not implement is kUnsupported, an impossible value or a
/// missing size kDataLoss; unknown keys are logged as one warning per file. Keys that only matter
/// for training or for writing the file are passed over.
models::Flux1Config parse_flux1_config(const JsonConfig& json);
models::ClipTextConfig parse_clip_text_config(const JsonConfig& json);
models::AutoencoderKlConfig parse_autoencoder_kl_config(const JsonConfig& json);

/// The configs of all components of a FluxPipeline.
struct Flux1Configs {
  models::Flux1Config transformer;
  models::ClipTextConfig text_encoder;
  models::T5Config text_encoder_2;
  models::AutoencoderKlConfig vae;
  schedulers::FlowMatchConfig scheduler;
};

/// Reads every component's config and checks that they fit each other: latent channels, widths of
/// the text embeddings. Throws kUnsupported when model_index.json names another class for a
/// component, kDataLoss naming the two keys that contradict each other, and like the parsers.
Flux1Configs load_flux1_configs(const ModelFolder& folder);

}  // namespace dither
