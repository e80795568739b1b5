#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "io/json_config.h"
#include "io/model_folder.h"
#include "models/vae/autoencoder_kl.h"
#include "schedulers/flow_match.h"

/// What the component configs of several families have in common. A known key with a value that
/// Dither does not implement is kUnsupported, an impossible value or a missing size kDataLoss;
/// unknown keys are logged as one warning per file. Keys that only matter for training or for
/// writing the file are passed over.
namespace dither {

/// Keys of every transformers config that say nothing about the forward pass.
void ignore_transformers_keys(const JsonConfig& json);

/// Reports what is left over, but for what io/quantization_config.h reads.
void finish_config(const JsonConfig& json);

/// The same, then config.validate() with the file's name in front of what it objects to.
template <typename Validate>
void finish_config(const JsonConfig& json, const Validate& validate) {
  finish_config(json);
  try {
    validate();
  } catch (const Error& error) {
    throw Error(error.code(), json.file() + ": " + error.what());
  }
}

/// Throws kUnsupported when model_index.json names another class for a component than `pipeline`
/// needs.
void check_component_classes(
    const ModelFolder& folder, std::string_view pipeline,
    std::span<const std::pair<std::string_view, std::string_view>> expected);

/// Throws kDataLoss naming the two keys unless both numbers are equal.
void check_configs_agree(const ModelFolder& folder, std::string_view left_key, std::int64_t left,
                         std::string_view right_key, std::int64_t right);

/// What AutoencoderKL and its descendants share: all keys but the scaling of latents.
models::AutoencoderKlConfig read_autoencoder_kl_keys(const JsonConfig& json);

schedulers::FlowMatchConfig parse_flow_match_config(const JsonConfig& json);

}  // namespace dither
