#include "io/component_weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/bfl_names.h"
#include "io/json_config.h"
#include "io/quantization_config.h"

namespace dither {
namespace {

namespace fs = std::filesystem;

/// The parts of a config.json that matter for weights.
struct Declaration {
  std::string class_name;
  std::optional<quant::Config> config;
};

Declaration read_declaration(const fs::path& folder) {
  std::error_code failed;
  if (!fs::exists(folder / "config.json", failed)) return {};
  const JsonConfig json = JsonConfig::load(folder / "config.json");
  return {json.get<std::string>("_class_name", ""), find_quantization_config(json)};
}

std::vector<std::string> weight_files(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(folder, failed)) {
    std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")) {
      names.push_back(std::move(name));
    }
  }
  if (failed) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: {}", folder.string(), failed.message()));
  }
  std::ranges::sort(names);
  return names;
}

std::vector<std::string> with_suffix(const std::vector<std::string>& names,
                                     std::string_view suffix) {
  std::vector<std::string> found;
  std::ranges::copy_if(names, std::back_inserter(found),
                       [&](const std::string& name) { return name.ends_with(suffix); });
  return found;
}

bool names_a_precision(const std::string& name) {
  constexpr std::array<std::string_view, 3> kTwins = {".fp16.safetensors", ".bf16.safetensors",
                                                      ".fp32.safetensors"};
  return std::ranges::any_of(kTwins, [&](std::string_view twin) { return name.ends_with(twin); });
}

}  // namespace

fs::path select_weights(const fs::path& path) {
  std::error_code failed;
  if (!fs::is_directory(path, failed)) return path;
  const std::vector<std::string> names = weight_files(path);
  std::vector<std::string> plain;
  std::ranges::remove_copy_if(with_suffix(names, ".safetensors"), std::back_inserter(plain),
                              names_a_precision);
  for (const auto& candidates : {with_suffix(names, "-mixed.safetensors"),
                                 with_suffix(names, ".safetensors.index.json"), plain, names}) {
    if (candidates.size() == 1) return path / candidates.front();
  }
  throw Error(ErrorCode::kNotFound,
              fmt::format("{}: {}", path.string(),
                          names.empty() ? "no safetensors files"
                                        : fmt::format("which weights? there are {}; name one",
                                                      fmt::join(names, ", "))));
}

std::unique_ptr<QuantizedCheckpoint> open_component_weights(const fs::path& folder,
                                                            std::string_view stem,
                                                            const WeightOverrides& overrides) {
  Declaration component = read_declaration(folder);
  std::unique_ptr<Checkpoint> weights;
  std::optional<quant::Config> beside = component.config;
  if (overrides.weights) {
    const fs::path file = select_weights(*overrides.weights);
    weights = open_checkpoint(file);
    beside = read_declaration(file.parent_path()).config;
  } else {
    weights = open_component(folder, stem);
  }
  auto in_files = find_quantization_config(weights->file_metadata());
  const bool bfl_names = has_bfl_names(*weights);
  if (bfl_names) {
    if (beside) rename_bfl_layers(*beside, *weights);
    if (in_files) rename_bfl_layers(*in_files, *weights);
    weights = with_diffusers_names(std::move(weights));
  }
  auto declared = merge_quantization_configs(std::move(beside), std::move(in_files));
  QuantizedCheckpoint::Options options{
      .config = declared ? std::move(declared) : std::move(component.config),
      .profile = quant::profile_of_class(component.class_name),
      .foreign_nvfp4 = bfl_names};
  if (overrides.modelopt_backbone) {
    options.backbone = ModelOptBackbone::open(*overrides.modelopt_backbone);
  }
  return std::make_unique<QuantizedCheckpoint>(std::move(weights), std::move(options));
}

}  // namespace dither
