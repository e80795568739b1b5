#include "runtime/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <system_error>

#include "base/atomic_file.h"
#include "base/error.h"
#include "io/checkpoint.h"
#include "io/component_weights.h"
#include "io/json_text.h"
#include "io/safetensors.h"
#include "io/torch_file.h"
#include "pipelines/pipeline.h"

namespace dither {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxConfigBytes = std::size_t{4} << 20;
constexpr std::string_view kSafetensorsSuffix = ".safetensors";

bool is_there(const fs::path& path) {
  std::error_code failed;
  return fs::exists(path, failed);
}

/// The file that configures a component, whatever its kind; empty when there is none.
fs::path config_file(const fs::path& folder) {
  for (const char* name : {"config.json", "scheduler_config.json", "tokenizer_config.json"}) {
    if (is_there(folder / name)) return folder / name;
  }
  return {};
}

/// The stem of the weights in a component's folder; nothing where there are none.
std::optional<std::string_view> find_stem(const fs::path& folder) {
  for (const std::string_view stem : {kDiffusersStem, kTransformersStem}) {
    const fs::path file = folder / fmt::format("{}{}", stem, kSafetensorsSuffix);
    if (is_there(file) || is_there(file.string() + ".index.json")) return stem;
  }
  return std::nullopt;
}

void add_config(ComponentSummary& component, const fs::path& file) {
  const auto config = parse_json_object(read_text_file(file, kMaxConfigBytes), file.string());
  for (const auto& [key, value] : config.items()) {
    if (key.starts_with('_')) continue;
    component.config.emplace_back(key, value.dump());
  }
  const auto named = config.find("_class_name");
  if (component.class_name.empty() && named != config.end() && named->is_string()) {
    component.class_name = named->get<std::string>();
  }
}

void add_tensors(ComponentSummary& component, const TensorSource& source) {
  component.tensors = source.tensors();
  std::map<DType, DTypeTotal> totals;
  for (const TensorInfo& info : component.tensors) {
    const auto elements = element_count(info.shape);
    const auto bits = static_cast<std::uint64_t>(dtype_bits(info.dtype));
    const std::uint64_t bytes = (static_cast<std::uint64_t>(elements) * bits + 7) / 8;
    DTypeTotal& total = totals[info.dtype];
    total.dtype = info.dtype;
    total.tensors += 1;
    total.parameters += elements;
    total.bytes += bytes;
    component.parameters += elements;
    component.bytes += bytes;
  }
  for (const auto& [dtype, total] : totals) component.dtypes.push_back(total);
  std::ranges::stable_sort(component.dtypes, std::ranges::greater{}, &DTypeTotal::bytes);
}

/// Plans of the layers of quantized weights. A contradiction is part of what there is to see.
void add_layers(ComponentSummary& component, const fs::path& folder, std::string_view stem) {
  try {
    const auto source = open_component_weights(folder, stem);
    if (!source->config()) return;
    component.declared_by = source->config()->source;
    component.layers.assign(source->layers().begin(), source->layers().end());
  } catch (const Error& error) {
    component.problem = error.what();
  }
}

ComponentSummary inspect_folder(const fs::path& folder, std::string name, std::string class_name) {
  ComponentSummary component;
  component.name = std::move(name);
  component.class_name = std::move(class_name);
  component.path = folder;
  if (const fs::path file = config_file(folder); !file.empty()) add_config(component, file);
  if (const auto stem = find_stem(folder)) {
    add_tensors(component, *open_component(folder, *stem));
    add_layers(component, folder, *stem);
  }
  return component;
}

CheckpointSummary inspect_pipeline(const fs::path& path) {
  const ModelFolder folder = ModelFolder::open(path);
  CheckpointSummary summary{.kind = CheckpointKind::kPipeline,
                            .path = path,
                            .class_name = folder.index().class_name,
                            .defaults = folder.defaults(),
                            .components = {}};
  for (const auto& [name, component] : folder.index().components) {
    summary.components.push_back(
        inspect_folder(folder.component_folder(name), name, component.name));
  }
  return summary;
}

CheckpointSummary inspect_component(const fs::path& path) {
  ComponentSummary component = inspect_folder(path, model_name(path), "");
  if (component.config.empty() && component.tensors.empty()) {
    throw Error(
        ErrorCode::kNotFound,
        fmt::format("{}: neither a pipeline (model_index.json) nor a component (config.json, "
                    "{}.safetensors, {}.safetensors)",
                    path.string(), kDiffusersStem, kTransformersStem));
  }
  return {.kind = CheckpointKind::kComponent,
          .path = path,
          .class_name = {},
          .defaults = {},
          .components = {std::move(component)}};
}

CheckpointSummary inspect_file(const fs::path& path) {
  ComponentSummary component;
  component.name = path.filename().string();
  component.path = path;
  if (is_torch_file(path)) {
    add_tensors(component, *TorchFile::open(path));
  } else if (path.extension() == kSafetensorsSuffix) {
    const auto file = SafetensorsFile::open(path);
    component.metadata = file->metadata();
    add_tensors(component, *file);
  } else {
    add_tensors(component, *open_checkpoint(path));
  }
  return {.kind = CheckpointKind::kFile,
          .path = path,
          .class_name = {},
          .defaults = {},
          .components = {std::move(component)}};
}

CheckpointSummary inspect_by_kind(const fs::path& path) {
  if (!is_there(path)) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: no such file or folder", path.string()));
  }
  std::error_code failed;
  if (!fs::is_directory(path, failed)) return inspect_file(path);
  return is_there(path / "model_index.json") ? inspect_pipeline(path) : inspect_component(path);
}

}  // namespace

CheckpointSummary inspect_checkpoint(const fs::path& path) {
  CheckpointSummary summary = inspect_by_kind(path);
  for (const ComponentSummary& component : summary.components) {
    summary.parameters += component.parameters;
    summary.bytes += component.bytes;
  }
  return summary;
}

}  // namespace dither
