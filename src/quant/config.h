#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quant/quantized_tensor.h"

namespace dither::quant {

/// What a checkpoint declares about its quantization ("quantization_config"), whatever spelling it
/// came in; io/quantization_config.h reads those.
struct Config {
  /// Of every layer that neither `layers` nor `ignore` speaks of.
  Format format = Format::kNone;
  /// Layers that stay unquantized: names with '*' for any run of characters.
  std::vector<std::string> ignore;
  /// Formats of layers by name, from a per-layer map. They go before everything else.
  std::map<std::string, Format, std::less<>> layers;
  /// FP8 only: a layer without input_scale is complete, its activations stay 16-bit.
  bool weight_only = false;
  /// NVFP4 only: overrides the nibble order found from the tensors' names.
  std::optional<bool> swap_weight_nibbles;
  std::string producer;  ///< "modelopt 0.47.0", for reports
  std::string source;    ///< the file that declared it, for messages
};

/// True when `pattern` matches the whole of `name`. '*' stands for any run of characters,
/// everything else for itself: "blocks.0*" matches "blocks.0.attn" and not "blocks.10.attn".
bool matches_pattern(std::string_view pattern, std::string_view name);

/// The first of the patterns that matches; null when none does.
const std::string* find_pattern(const std::vector<std::string>& patterns, std::string_view name);

/// True when the config leaves the layer `name` (a checkpoint name without ".weight") alone.
bool is_ignored(const Config& config, std::string_view name);

/// The format that the config declares for a layer.
Format format_of(const Config& config, std::string_view name);

}  // namespace dither::quant
