#pragma once

#include "io/json_config.h"
#include "io/model_folder.h"
#include "models/flux2/config.h"
#include "models/text/causal_lm.h"
#include "models/vae/autoencoder_kl.h"
#include "pipelines/component_configs.h"
#include "pipelines/flux2/flux2_variant.h"
#include "schedulers/flow_match.h"

namespace dither {

/// AutoencoderKLFlux2's config: latents are normalised by the statistics of a batch norm.
struct Flux2VaeConfig {
  models::AutoencoderKlConfig kl;
  double batch_norm_eps = 1e-4;
};

/// diffusers' and transformers' component configs as the models' own structs, validated; errors as
/// pipelines/component_configs.h says.
models::Flux2Config parse_flux2_config(const JsonConfig& json);
Flux2VaeConfig parse_flux2_vae_config(const JsonConfig& json);
/// Mistral3ForConditionalGeneration's config, of which the "text_config" counts, or Qwen3's.
models::CausalLmConfig parse_causal_lm_config(const JsonConfig& json, const Flux2Variant& variant);

/// The configs of all components of a pipeline of FLUX.2 (Flux2Variant).
struct Flux2Configs {
  const Flux2Variant* variant = nullptr;
  models::Flux2Config transformer;
  models::CausalLmConfig text_encoder;
  Flux2VaeConfig vae;
  schedulers::FlowMatchConfig scheduler;
  bool is_distilled = false;  ///< of klein: never guided
};

/// Reads every component's config and checks that they fit each other: latent channels, the width
/// of the prompt's embedding. Throws kUnsupported when model_index.json names another class for a
/// component, kDataLoss naming the two keys that contradict each other, and like the parsers.
Flux2Configs load_flux2_configs(const ModelFolder& folder);

}  // namespace dither
