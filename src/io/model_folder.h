#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json_config.h"

namespace dither {

/// A picture size in pixels.
struct ImageSize {
  int width = 0;
  int height = 0;

  bool operator==(const ImageSize&) const = default;
};

/// What a model's author suggests, from `dither.json` in the model's folder. Other loaders ignore
/// that file; here every key is optional.
struct GenerationDefaults {
  std::optional<int> width;   ///< pixels
  std::optional<int> height;  ///< pixels
  std::optional<int> num_inference_steps;
  std::optional<double> guidance_scale;
  std::optional<int> max_sequence_length;       ///< tokens of the long-prompt text encoder
  std::optional<int> num_frames = {};           ///< of a video
  std::optional<int> fps = {};                  ///< of a video
  std::optional<double> guidance_scale_2 = {};  ///< of the second of two transformers
  std::optional<double> flow_shift = {};        ///< of the noise levels
  std::vector<ImageSize> sizes;                 ///< sizes the model can draw; empty: not restricted
  std::vector<std::string> example_prompts;     ///< prompts that show the model well
};

/// Parses dither.json. Throws kDataLoss on a wrong type or a size below 1; warns on unknown keys.
GenerationDefaults parse_generation_defaults(const JsonConfig& config);

/// The class that a component is an instance of, e.g. {"diffusers", "AutoencoderKL"}.
struct ComponentClass {
  std::string library;
  std::string name;
};

/// model_index.json: the pipeline's class and its components that are present, by name.
struct ModelIndex {
  std::string class_name;
  std::map<std::string, ComponentClass, std::less<>> components;
};

/// Components are pairs [library, class]; a pair of nulls is a component left out, and a value of
/// another kind is a setting of the pipeline. `path` is for messages. Throws kDataLoss.
ModelIndex parse_model_index(std::string_view text, std::string_view path);

/// A diffusers pipeline directory: `model_index.json` names the pipeline class and its components,
/// each of which has a folder of its own.
class ModelFolder {
 public:
  /// `component_paths` replaces the folders of the named components. Throws kNotFound (no folder,
  /// no model_index.json, a replacement that does not exist or is for a component that the pipeline
  /// does not have), kDataLoss (a malformed file).
  static ModelFolder open(const std::filesystem::path& folder,
                          std::map<std::string, std::filesystem::path> component_paths = {});

  const std::filesystem::path& path() const { return path_; }
  const ModelIndex& index() const { return index_; }
  /// model_index.json as a whole, for the pipeline's own settings (boundary_ratio, ...).
  const JsonConfig& settings() const { return settings_; }
  const GenerationDefaults& defaults() const { return defaults_; }

  bool has(std::string_view component) const { return index_.components.contains(component); }
  /// Throws kNotFound, listing what there is.
  const ComponentClass& component_class(std::string_view component) const;
  /// Throws kNotFound when the pipeline has no such component or the folder does not exist.
  std::filesystem::path component_folder(std::string_view component) const;
  /// The same, but nothing where the folder does not exist.
  std::optional<std::filesystem::path> find_component_folder(std::string_view component) const;
  /// A component's JSON file: "config.json", "scheduler_config.json". Throws like
  /// component_folder() and JsonConfig::load().
  JsonConfig component_config(std::string_view component,
                              std::string_view file_name = "config.json") const;

 private:
  ModelFolder(std::filesystem::path path, ModelIndex index, JsonConfig settings);

  std::filesystem::path path_;
  ModelIndex index_;
  JsonConfig settings_;
  std::map<std::string, std::filesystem::path> component_paths_;
  GenerationDefaults defaults_;
};

}  // namespace dither
