#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/load.h"

namespace dither::cli {

/// Which model to load, and how: shared by every subcommand that draws.
struct ModelOptions {
  std::optional<std::string> model_path;
  std::map<std::string, std::optional<std::string>> component_paths;
  std::optional<std::string> transformer_weights_path;
  std::optional<std::string> modelopt_backbone;
  std::optional<std::string> transformer_2_weights_path;
  std::optional<std::string> modelopt_backbone_2;
  bool strict_precision = false;
  std::optional<std::string> load_format;
  std::optional<std::string> dummy_quantization;
  std::optional<std::string> dummy_quantization_2;
  std::optional<std::string> attention_precision;
  std::optional<std::string> weight_only_fp8;
  std::optional<std::string> nvfp4_as;
  std::optional<std::string> text_encoder_precision;
  std::optional<std::string> vae_precision;
  std::optional<bool> vae_tiling;
  std::optional<std::string> dtype;
  std::optional<std::string> max_vram;
  bool dit_cpu_offload = false;
  bool dit_layerwise_offload = false;
  bool text_encoder_cpu_offload = false;
  std::optional<std::string> device;
  std::optional<int> threads;
};

/// Declares --model-path, --<component>-path (also as --component-paths.<component>),
/// --transformer-weights-path, --modelopt-backbone and both for transformer_2, --strict-precision,
/// --load-format, --dummy-quantization(-2), --attention-precision, add_weight_options(),
/// --max-vram,
/// --dit-cpu-offload, --dit-layerwise-offload, --text-encoder-cpu-offload, --device and --threads.
void add_model_options(CLI::App& app, ModelOptions& options);

/// Declares how weights lie in memory, each name behind `prefix` ("--" or "--candidate-"):
/// weight-only-fp8, nvfp4-as, text-encoder-precision and vae-precision; and vae-tiling.
void add_weight_options(CLI::App& app, const std::string& prefix, const std::string& group,
                        ModelOptions& options);

/// Declares --dtype. Not part of the above because `bench` takes a list of them.
void add_dtype_option(CLI::App& app, ModelOptions& options);

/// What is wrong with a value of --attention-precision; empty: nothing.
std::string refuse_attention_precision(const std::string& text);

/// "24GiB", "24G", "24GB" (10^9 bytes each) or "24000MiB" -> bytes; nothing for other words.
std::optional<std::size_t> parse_byte_size(const std::string& text);

/// The words that --dtype takes.
std::vector<std::string> compute_dtype_names();

/// "bf16" -> kBF16, "auto" -> nothing. Throws kInvalidArgument on other words.
std::optional<DType> parse_compute_dtype(const std::string& name);

/// The model to load; without --model-path the demo model that comes with Dither. Paths that do not
/// exist may be ids of models in the Hugging Face cache: throws kNotFound like
/// resolve_model_path().
LoadOptions to_load_options(const ModelOptions& options);

}  // namespace dither::cli
