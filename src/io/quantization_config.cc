#include "io/quantization_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

using quant::Config;
using quant::Format;

[[noreturn]] void unsupported(const JsonConfig& json, std::string_view key, std::string_view value,
                              std::string_view supported) {
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: {} is {}, supported are {}", json.file(),
                                                   quote(key), quote(value), supported));
}

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

/// An algorithm's exact name. Names that merely contain "FP8" mean other formats.
Format parse_algorithm(const JsonConfig& json, std::string_view key, const std::string& name) {
  const std::string algorithm = upper(name);
  if (algorithm == "FP8") return Format::kFp8;
  if (algorithm == "NVFP4") return Format::kNvfp4;
  unsupported(json, key, name, "FP8 and NVFP4");
}

/// The words of Comfy's and Black Forest Labs' layer maps.
Format parse_layer_format(const JsonConfig& json, const std::string& name) {
  if (name == "fp8" || name == "float8_e4m3fn" || name == "float8_e4m3") return Format::kFp8;
  if (name == "nvfp4") return Format::kNvfp4;
  unsupported(json, "format", name, "fp8, float8_e4m3fn and nvfp4");
}

/// {"layer": {"quant_algo": "FP8"}} or {"layer": {"format": "nvfp4"}}.
void read_layers(const JsonConfig& layers, Config& config) {
  for (const std::string& name : layers.keys()) {
    const auto layer = layers.get<JsonConfig>(name);
    const auto algorithm = layer.find<std::string>("quant_algo");
    config.layers[name] = algorithm ? parse_algorithm(layer, "quant_algo", *algorithm)
                                    : parse_layer_format(layer, layer.get<std::string>("format"));
  }
}

/// The method names who reads the file; the algorithm says how it is quantized. A method may name
/// the algorithm too and must then agree with it.
std::optional<Format> read_method(const JsonConfig& json) {
  const auto method = json.find<std::string>("quant_method");
  if (!method || *method == "modelopt") return std::nullopt;
  if (*method == "modelopt_fp8") return Format::kFp8;
  if (*method == "modelopt_fp4") return Format::kNvfp4;
  unsupported(json, "quant_method", *method, "modelopt, modelopt_fp8 and modelopt_fp4");
}

/// The object that holds the algorithm: the config itself, or what is nested in it.
JsonConfig algorithm_scope(const JsonConfig& json) {
  const auto nested = json.find<JsonConfig>("quantization");
  return nested ? *nested : json;
}

/// The format of all layers. kNone for a config that names layers one by one.
Format read_format(const JsonConfig& json, const JsonConfig& scope, bool by_layer) {
  const auto method = read_method(json);
  std::optional<Format> format;
  for (const char* key : {"quant_algo", "quant_type"}) {
    const auto name = scope.find<std::string>(key);
    if (!name || (by_layer && upper(*name) == "MIXED_PRECISION")) continue;
    const Format named = parse_algorithm(scope, key, *name);
    if (format && *format != named) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: 'quant_algo' is {}, but 'quant_type' is {}", json.file(),
                              quant::format_name(*format), quant::format_name(named)));
    }
    format = named;
  }
  if (format && method && *format != *method) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: 'quant_method' means {}, but the algorithm is {}", json.file(),
                            quant::format_name(*method), quant::format_name(*format)));
  }
  if (format) return *format;
  if (method) return *method;
  if (by_layer) return Format::kNone;
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: neither 'quant_algo' nor 'quant_type' says how it is quantized",
                          json.file()));
}

void append(std::vector<std::string>& to, std::vector<std::string> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

std::string read_producer(const JsonConfig& json) {
  const auto producer = json.find<JsonConfig>("producer");
  if (!producer) return {};
  return fmt::format("{} {}", producer->get<std::string>("name", ""),
                     producer->get<std::string>("version", ""));
}

/// A group may not ask for anything but static per-tensor scales (NVFP4: blocks of 16).
void check_groups(const JsonConfig& json) {
  const auto groups = json.find<JsonConfig>("config_groups");
  if (!groups) return;
  for (const std::string& name : groups->keys()) {
    const auto group = groups->get<JsonConfig>(name);
    for (const char* side : {"weights", "input_activations"}) {
      const auto numbers = group.find<JsonConfig>(side);
      if (!numbers) continue;
      numbers->expect<bool>("dynamic", false);
      numbers->expect<std::string>("type", "float");
      numbers->expect<std::int64_t>("group_size", 16);
    }
  }
}

bool same_declaration(const Config& a, const Config& b) {
  return a.format == b.format && a.layers == b.layers && a.weight_only == b.weight_only &&
         a.swap_weight_nibbles == b.swap_weight_nibbles;
}

bool ignores_the_same(const Config& a, const Config& b) {
  return std::ranges::is_permutation(a.ignore, b.ignore);
}

[[noreturn]] void contradict(const Config& a, const Config& b, std::string_view what) {
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{} and {} contradict each other: {}", a.source, b.source, what));
}

}  // namespace

Config parse_quantization_config(const JsonConfig& json) {
  const JsonConfig scope = algorithm_scope(json);
  Config config;
  config.source = json.file();
  for (const char* key : {"layers", "quantized_layers"}) {
    if (const auto layers = scope.find<JsonConfig>(key)) read_layers(*layers, config);
  }
  config.format = read_format(json, scope, !config.layers.empty());
  for (const char* key : {"ignore", "exclude_modules"}) {
    append(config.ignore, scope.get<std::vector<std::string>>(key, {}));
  }
  // diffusers excludes every module whose name contains one of these.
  for (const auto& part : scope.get<std::vector<std::string>>("modules_to_not_convert", {})) {
    config.ignore.push_back(fmt::format("*{}*", part));
  }
  // diffusers' own configs have no quant_algo, and quantize weights only unless told otherwise.
  const bool diffusers = scope.has("quant_type") && !scope.has("quant_algo");
  config.weight_only = scope.get<bool>("weight_only", diffusers);
  for (const JsonConfig& place : {json, scope}) {
    if (const auto swap = place.find<bool>("swap_weight_nibbles"))
      config.swap_weight_nibbles = swap;
  }
  config.producer = read_producer(json);
  check_groups(scope);
  return config;
}

Config parse_layer_quantization(const JsonConfig& json) {
  Config config;
  config.format = parse_layer_format(json, json.get<std::string>("format"));
  config.weight_only = json.get<bool>("full_precision_matrix_mult", false);
  config.source = json.file();
  return config;
}

std::optional<Config> find_quantization_config(const JsonConfig& config) {
  if (config.has("sparse_attention_config")) {
    config.ignore({"sparse_attention_config"});
    log::info("{}: 'sparse_attention_config' is not used: attention stays dense", config.file());
  }
  for (const char* key : {"quantization_config", "compression_config"}) {
    if (const auto found = config.find<JsonConfig>(key)) return parse_quantization_config(*found);
  }
  if (!config.has("text_config")) return std::nullopt;
  const auto text = config.find<JsonConfig>("text_config");
  if (!text || !text->has("quantization_config")) return std::nullopt;
  return parse_quantization_config(text->get<JsonConfig>("quantization_config"));
}

std::optional<Config> find_quantization_config(std::span<const FileMetadata> files) {
  constexpr std::array<std::string_view, 2> kKeys = {"_quantization_metadata",
                                                     "quantization_config"};
  std::optional<Config> found;
  for (const FileMetadata& file : files) {
    for (const std::string_view key : kKeys) {
      const auto text = file.entries.find(std::string(key));
      if (text == file.entries.end()) continue;
      Config config = parse_quantization_config(
          JsonConfig::parse(text->second, fmt::format("{}: metadata '{}'", file.file, key)));
      if (!found) {
        found = std::move(config);
      } else if (!same_declaration(*found, config)) {
        contradict(*found, config, "they declare different formats");
      } else if (!ignores_the_same(*found, config)) {
        contradict(*found, config, "they ignore different layers");
      }
    }
  }
  return found;
}

std::optional<Config> merge_quantization_configs(std::optional<Config> config,
                                                 std::optional<Config> metadata) {
  if (!config) return metadata;
  if (!metadata) return config;
  if (metadata->layers.empty()) {
    if (!same_declaration(*config, *metadata) && config->layers.empty()) {
      contradict(*config, *metadata, "they declare different formats");
    }
    for (const std::string& pattern : metadata->ignore) {
      if (std::ranges::find(config->ignore, pattern) != config->ignore.end()) continue;
      contradict(*config, *metadata, fmt::format("only the second leaves {} out", quote(pattern)));
    }
    return config;
  }
  for (const auto& [name, format] : metadata->layers) {
    const Format other = quant::format_of(*config, name);
    if (other == format) continue;
    contradict(*config, *metadata,
               fmt::format("{} is {} in the first and {} in the second", quote(name),
                           quant::format_name(other), quant::format_name(format)));
  }
  return config;
}

}  // namespace dither
