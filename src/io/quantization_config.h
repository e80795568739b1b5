#pragma once

#include <optional>
#include <span>
#include <string>

#include "io/checkpoint.h"
#include "io/json_config.h"
#include "quant/config.h"

namespace dither {

/// Reads one "quantization_config" object in any of its spellings:
///  - flat, as ModelOpt's export writes it: quant_method, quant_algo, ignore, config_groups;
///  - nested: quant_algo and exclude_modules under "quantization" (hf_quant_config.json);
///  - per layer: MIXED_PRECISION with "quantized_layers", or "layers": {name: {"format"}} (files of
///    Black Forest Labs and Comfy);
///  - diffusers' own: quant_type, modules_to_not_convert, weight_only.
/// Throws kDataLoss (wrong types, nothing that says how), kUnsupported naming the algorithm or
/// method that Dither does not run.
quant::Config parse_quantization_config(const JsonConfig& json);

/// Reads what is declared of one layer: {"format": "nvfp4", "full_precision_matrix_mult": true}.
quant::Config parse_layer_quantization(const JsonConfig& json);

/// What a component's config.json declares: "quantization_config", "compression_config" or
/// "text_config": {"quantization_config"}; nothing when there is none. A "sparse_attention_config"
/// is left out with a notice.
std::optional<quant::Config> find_quantization_config(const JsonConfig& config);

/// What the `__metadata__` of weight files declares under "quantization_config" or
/// "_quantization_metadata", of which either may hold a whole config or a map of layers. Throws
/// kDataLoss when two files, or two keys of one, contradict each other.
std::optional<quant::Config> find_quantization_config(std::span<const FileMetadata> files);

/// One declaration out of config.json's and the weight files'. config.json is the one that tools
/// edit, so it may list more layers to ignore; any other difference throws kDataLoss.
std::optional<quant::Config> merge_quantization_configs(std::optional<quant::Config> config,
                                                        std::optional<quant::Config> metadata);

}  // namespace dither
