#include "io/model_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "io/json_text.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexName = "model_index.json";
constexpr const char* kDefaultsName = "dither.json";
constexpr std::size_t kMaxIndexBytes = std::size_t{4} << 20;

bool is_folder(const fs::path& path) {
  std::error_code failed;
  return fs::is_directory(path, failed);
}

/// False also when the folder may not be searched: opening the file then says so.
bool is_missing(const fs::path& path) {
  std::error_code failed;
  return fs::status(path, failed).type() == fs::file_type::not_found;
}

/// A positive integer, if the key is there.
std::optional<int> find_positive(const JsonConfig& config, std::string_view key) {
  const auto value = config.find<int>(key);
  if (value && *value < 1) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: '{}' must be at least 1, is {}", config.file(), key, *value));
  }
  return value;
}

std::vector<ImageSize> read_sizes(const JsonConfig& config) {
  std::vector<ImageSize> sizes;
  for (const auto& pair : config.get<std::vector<std::vector<int>>>("sizes", {})) {
    if (pair.size() != 2 || pair[0] < 1 || pair[1] < 1) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: 'sizes' must hold [width, height] pairs, has [{}]",
                              config.file(), fmt::join(pair, ", ")));
    }
    sizes.push_back({pair[0], pair[1]});
  }
  return sizes;
}

}  // namespace

GenerationDefaults parse_generation_defaults(const JsonConfig& config) {
  GenerationDefaults defaults;
  defaults.width = find_positive(config, "width");
  defaults.height = find_positive(config, "height");
  defaults.num_inference_steps = find_positive(config, "num_inference_steps");
  defaults.guidance_scale = config.find<double>("guidance_scale");
  defaults.max_sequence_length = find_positive(config, "max_sequence_length");
  defaults.num_frames = find_positive(config, "num_frames");
  defaults.fps = find_positive(config, "fps");
  defaults.guidance_scale_2 = config.find<double>("guidance_scale_2");
  defaults.flow_shift = config.find<double>("flow_shift");
  defaults.sizes = read_sizes(config);
  defaults.example_prompts = config.get<std::vector<std::string>>("example_prompts", {});
  config.warn_unread_keys();
  return defaults;
}

ModelIndex parse_model_index(std::string_view text, std::string_view path) {
  const nlohmann::json document = parse_json_object(text, path);
  const auto fail = [&](std::string_view key, std::string_view must) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: {} must be {}", path, quote(key), must));
  };
  ModelIndex index;
  const auto class_name = document.find("_class_name");
  if (class_name == document.end() || !class_name->is_string()) {
    fail("_class_name", "the name of a pipeline class");
  }
  index.class_name = class_name->get<std::string>();
  for (const auto& [name, value] : document.items()) {
    if (!value.is_array() || value.size() != 2 || name.starts_with('_')) continue;
    if (value[0].is_null() && value[1].is_null()) continue;
    if (!value[0].is_string() || !value[1].is_string()) fail(name, "a pair [library, class]");
    if (!is_plain_file_name(name)) fail(name, "a plain folder name");
    index.components.emplace(
        name, ComponentClass{value[0].get<std::string>(), value[1].get<std::string>()});
  }
  return index;
}

ModelFolder ModelFolder::open(const fs::path& folder,
                              std::map<std::string, fs::path> component_paths) {
  if (!is_folder(folder)) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: no such model folder", folder.string()));
  }
  const fs::path index_path = folder / kIndexName;
  if (is_missing(index_path)) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: not a diffusers pipeline: it has no {}",
                                                  folder.string(), kIndexName));
  }
  const std::string text = read_text_file(index_path, kMaxIndexBytes);
  ModelFolder model(folder, parse_model_index(text, index_path.string()),
                    JsonConfig::parse(text, index_path.string()));
  for (const auto& [name, path] : component_paths) {
    model.component_class(name);
    if (!is_folder(path)) {
      throw Error(ErrorCode::kNotFound, fmt::format("{}: no such folder, given for component {}",
                                                    path.string(), quote(name)));
    }
  }
  model.component_paths_ = std::move(component_paths);
  if (!is_missing(folder / kDefaultsName)) {
    model.defaults_ = parse_generation_defaults(JsonConfig::load(folder / kDefaultsName));
  }
  return model;
}

ModelFolder::ModelFolder(fs::path path, ModelIndex index, JsonConfig settings)
    : path_(std::move(path)), index_(std::move(index)), settings_(std::move(settings)) {}

const ComponentClass& ModelFolder::component_class(std::string_view component) const {
  const auto it = index_.components.find(component);
  if (it == index_.components.end()) {
    std::vector<std::string> known;
    for (const auto& [name, value] : index_.components) known.push_back(name);
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: {} has no component {}; it has {}", path_.string(),
                            index_.class_name, quote(component), fmt::join(known, ", ")));
  }
  return it->second;
}

std::optional<fs::path> ModelFolder::find_component_folder(std::string_view component) const {
  component_class(component);
  const auto replaced = component_paths_.find(std::string(component));
  if (replaced != component_paths_.end()) return replaced->second;
  fs::path folder = path_ / component;
  if (!is_folder(folder)) return std::nullopt;
  return folder;
}

fs::path ModelFolder::component_folder(std::string_view component) const {
  if (auto folder = find_component_folder(component)) return *std::move(folder);
  throw Error(ErrorCode::kNotFound,
              fmt::format("{}: no such folder, but {} lists component {} ({})",
                          (path_ / component).string(), kIndexName, quote(component),
                          component_class(component).name));
}

JsonConfig ModelFolder::component_config(std::string_view component,
                                         std::string_view file_name) const {
  return JsonConfig::load(component_folder(component) / file_name);
}

}  // namespace dither
