#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "io/quantized_checkpoint.h"

namespace dither {

/// Where a component's weights come from, if not from its folder alone.
struct WeightOverrides {
  /// Weights in place of the folder's: a file, a shard index, or a folder with either. What they
  /// declare about their quantization goes before what the component's config.json says.
  std::optional<std::filesystem::path> weights = {};
  /// ModelOpt's calibration, for an export without scales: a file, or the folder that holds it.
  std::optional<std::filesystem::path> modelopt_backbone = {};
};

/// Opens the weights of a component's folder (its config.json and `<stem>.safetensors`) and
/// resolves what is declared about their quantization: config.json beside the weights together with
/// the weight files' metadata, which must agree; for overriding weights that declare nothing, the
/// component's config.json. FLUX weights under Black Forest Labs' names are shown under
/// diffusers'. Throws what open_component(), find_quantization_config() and QuantizedCheckpoint
/// throw.
std::unique_ptr<QuantizedCheckpoint> open_component_weights(const std::filesystem::path& folder,
                                                            std::string_view stem,
                                                            const WeightOverrides& overrides = {});

/// The weights that `path` means: itself, or in a folder the one file that is there, of several a
/// "*-mixed.safetensors", an index, or the one without a ".fp16", ".bf16" or ".fp32" before its
/// ending. Throws kNotFound, listing the candidates, when that leaves none or several.
std::filesystem::path select_weights(const std::filesystem::path& path);

}  // namespace dither
