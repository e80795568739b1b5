#include "io/fp8_export.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/atomic_file.h"
#include "base/error.h"
#include "io/json_text.h"
#include "io/safetensors_writer.h"
#include "quant/fp8.h"
#include "tensor/host_floats.h"

namespace dither {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxConfigBytes = std::size_t{4} << 20;
constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kWeightScale = ".weight_scale";
constexpr std::string_view kInputScale = ".input_scale";

/// The layers by name: a weight belongs to one of them or stays as it is.
using Layers = std::map<std::string, Fp8ExportLayer, std::less<>>;

std::vector<float> read_weight(const TensorSource& source, std::string_view name) {
  const Tensor tensor = source.read(name);
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  read_floats(tensor, 0, values);
  source.release(tensor);
  return values;
}

Layers find_scales(const Fp8Export& what) {
  Layers layers;
  for (const auto& [name, input_amax] : what.input_amax) {
    const std::string weight = name + std::string(kWeight);
    const TensorInfo* info = what.source.find(weight);
    if (info == nullptr) {
      throw Error(ErrorCode::kNotFound,
                  fmt::format("{}: no tensor '{}'", what.source.description(), weight));
    }
    if (info->shape.size() != 2 || !is_floating(info->dtype)) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: tensor '{}' is {} {}, expected a matrix of floating-point "
                              "numbers",
                              info->file, weight, dtype_name(info->dtype), to_string(info->shape)));
    }
    Fp8ExportLayer layer{.name = name, .input_amax = input_amax};
    layer.weight_amax = quant::amax(read_weight(what.source, weight));
    layer.input_scale = quant::fp8_scale(input_amax, fmt::format("input of {}", name));
    layer.weight_scale =
        quant::fp8_scale(layer.weight_amax, fmt::format("{}: {}", info->file, weight));
    layers.emplace(name, layer);
  }
  return layers;
}

/// "a.b" for "a.b.weight"; null when `suffix` is not the end or the layer stays as it is.
const Fp8ExportLayer* find_layer(const Layers& layers, std::string_view tensor,
                                 std::string_view suffix) {
  if (!tensor.ends_with(suffix)) return nullptr;
  const auto found = layers.find(tensor.substr(0, tensor.size() - suffix.size()));
  return found == layers.end() ? nullptr : &found->second;
}

Tensor scalar(float value) {
  Tensor tensor = Tensor::host({}, DType::kF32);
  *tensor.data<float>() = value;
  return tensor;
}

Tensor quantized(const TensorSource& source, const TensorSpec& spec, float scale) {
  Tensor codes = Tensor::host(spec.shape, DType::kF8E4M3);
  try {
    quant::quantize_weight_e4m3(read_weight(source, spec.name), scale,
                                {codes.data<std::uint8_t>(), codes.bytes()});
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("{}: tensor '{}': {}", source.description(), spec.name, error.what()));
  }
  return codes;
}

std::vector<TensorSpec> specs_of(const Fp8Export& what, const Layers& layers,
                                 std::string_view file) {
  std::vector<TensorSpec> specs;
  for (const TensorInfo& info : what.source.tensors()) {
    if (info.file != file) continue;
    const Fp8ExportLayer* const layer = find_layer(layers, info.name, kWeight);
    specs.push_back({info.name, layer != nullptr ? DType::kF8E4M3 : info.dtype, info.shape});
    if (layer == nullptr) continue;
    specs.push_back({layer->name + std::string(kWeightScale), DType::kF32, {}});
    specs.push_back({layer->name + std::string(kInputScale), DType::kF32, {}});
  }
  return specs;
}

void write_tensor(const Fp8Export& what, const Layers& layers, const TensorSpec& spec,
                  SafetensorsWriter& writer) {
  if (const auto* layer = find_layer(layers, spec.name, kWeightScale)) {
    writer.write(spec.name, scalar(layer->weight_scale));
  } else if (const auto* same = find_layer(layers, spec.name, kInputScale)) {
    writer.write(spec.name, scalar(same->input_scale));
  } else if (const auto* weight = find_layer(layers, spec.name, kWeight)) {
    writer.write(spec.name, quantized(what.source, spec, weight->weight_scale));
  } else {
    const Tensor tensor = what.source.read(spec.name);
    writer.write(spec.name, tensor);
    what.source.release(tensor);
  }
}

/// The dialect of ModelOpt's own exports, key by key.
void write_config(const Fp8Export& what, const fs::path& file) {
  using Json = nlohmann::ordered_json;
  const std::string text = read_text_file(what.config, kMaxConfigBytes);
  parse_json_object(text, what.config.string());  // the strict reading of untrusted input
  Json config = Json::parse(text);
  const Json fp8 = {{"dynamic", false}, {"num_bits", 8}, {"type", "float"}};
  config["quantization_config"] = {
      {"config_groups",
       {{"group_0",
         {{"input_activations", fp8}, {"weights", fp8}, {"targets", Json::array({"Linear"})}}}}},
      {"ignore", what.ignore},
      {"producer", {{"name", "dither"}, {"version", what.producer_version}}},
      {"quant_algo", "FP8"},
      {"quant_method", "modelopt"}};
  write_file(file, config.dump(2) + "\n");
}

/// A shard index; a single file needs none.
void write_index(const std::map<std::string, std::string>& shards, std::uint64_t total_size,
                 const fs::path& file) {
  const nlohmann::json index = {{"metadata", {{"total_size", total_size}}}, {"weight_map", shards}};
  write_file(file, index.dump(2) + "\n");
}

std::uint64_t byte_size(const TensorSpec& spec) {
  return static_cast<std::uint64_t>(element_count(spec.shape)) *
         static_cast<std::uint64_t>(dtype_bits(spec.dtype)) / 8;
}

}  // namespace

std::uint64_t fp8_export_bytes(const Checkpoint& source,
                               const std::set<std::string, std::less<>>& layers) {
  constexpr std::uint64_t kScaleBytes = 2 * sizeof(float);
  std::uint64_t bytes = 0;
  for (const TensorInfo& info : source.tensors()) {
    const std::string_view name = info.name;
    const bool quantized =
        name.ends_with(kWeight) && layers.contains(name.substr(0, name.size() - kWeight.size()));
    const DType dtype = quantized ? DType::kF8E4M3 : info.dtype;
    bytes += byte_size({info.name, dtype, info.shape}) + (quantized ? kScaleBytes : 0);
  }
  return bytes;
}

std::vector<Fp8ExportLayer> write_fp8_export(const Fp8Export& what, const fs::path& folder,
                                             const ExportProgress& progress) {
  const Layers layers = find_scales(what);
  const std::vector<FileMetadata> files = what.source.file_metadata();
  const std::size_t total = what.source.tensors().size() + 2 * layers.size();
  const std::string single = fmt::format("{}.safetensors", kDiffusersStem);
  std::map<std::string, std::string> shards;
  std::uint64_t total_size = 0;
  std::size_t done = 0;
  for (const FileMetadata& file : files) {
    const std::string name = files.size() == 1 ? single : fs::path(file.file).filename().string();
    std::map<std::string, std::string> metadata = file.entries;
    metadata.emplace("format", "pt");
    SafetensorsWriter writer(folder / name, specs_of(what, layers, file.file), metadata);
    for (const TensorSpec& spec : writer.order()) {
      write_tensor(what, layers, spec, writer);
      shards[spec.name] = name;
      total_size += byte_size(spec);
      if (progress && !progress(++done, total)) {
        throw Error(ErrorCode::kCancelled, fmt::format("stopped after {} tensors", done));
      }
    }
    writer.finish();
  }
  if (files.size() > 1) write_index(shards, total_size, folder / (single + ".index.json"));
  write_config(what, folder / "config.json");
  std::vector<Fp8ExportLayer> written;
  for (const auto& [name, layer] : layers) written.push_back(layer);
  return written;
}

}  // namespace dither
