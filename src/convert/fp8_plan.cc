#include "convert/fp8_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "convert/python_json.h"
#include "io/untrusted_name.h"
#include "quant/config.h"
#include "tensor/host_floats.h"

namespace dither::convert {
namespace {

using nlohmann::json;

constexpr std::string_view kWeight = ".weight";

std::string layer_of(std::string_view tensor) {
  return std::string(tensor.substr(0, tensor.rfind('.')));
}

/// Scales in any order of operations agree to a few units in the last place; some are computed in
/// 16 bits.
bool same_scale(float a, float b) { return std::fabs(a - b) <= 0x1p-7F * std::max(a, b); }

/// "'a'; 'b'; ..." of at most 20.
std::string list(std::vector<std::string> items) {
  constexpr std::size_t kMaxShown = 20;
  const std::size_t count = items.size();
  items.resize(std::min(count, kMaxShown));
  return fmt::format("{}{}", fmt::join(items, "; "), count > kMaxShown ? "; ..." : "");
}

/// The export's "quantization_config", which must be ModelOpt's flat one for FP8.
json quantization_config(const TransformerFolder& folder) {
  const auto refuse = [&](ErrorCode code, const std::string& what) {
    throw Error(code, fmt::format("{}: {}", folder.config_file(), what));
  };
  const auto found = folder.config.find("quantization_config");
  if (found == folder.config.end() || !found->is_object()) {
    refuse(ErrorCode::kDataLoss, "no 'quantization_config': this is no ModelOpt export");
  }
  json config = *found;
  if (config.value("quant_method", json()) != "modelopt") {
    refuse(ErrorCode::kUnsupported, fmt::format("'quant_method' is {}, expected \"modelopt\"",
                                                config.value("quant_method", json()).dump()));
  }
  std::string algorithm = "FP8";  // unless it says otherwise: amax decide
  if (const auto named = config.find("quant_algo"); named != config.end() && !named->is_null()) {
    algorithm = named->is_string() ? named->get<std::string>() : named->dump();
  }
  std::ranges::transform(algorithm, algorithm.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (algorithm != "FP8") {
    refuse(ErrorCode::kUnsupported,
           fmt::format("'quant_algo' is {}, only FP8 can be converted", quote(algorithm)));
  }
  config["quant_algo"] = algorithm;
  if (!config.contains("quant_type")) config["quant_type"] = algorithm;  // diffusers' spelling
  json& ignore = config["ignore"];
  if (ignore.is_null()) ignore = json::array();
  if (!ignore.is_array() ||
      !std::ranges::all_of(ignore, [](const json& item) { return item.is_string(); })) {
    refuse(ErrorCode::kDataLoss, "'ignore' must be a list of layer names");
  }
  return config;
}

/// What becomes of one layer.
enum class Fate : std::uint8_t { kCopied, kIgnored, kFallback, kQuantized, kKeptFp8 };

struct Layer {
  Fate fate = Fate::kCopied;
  float weight_scale = 0;
  float input_scale = 0;
};

class Planner {
 public:
  explicit Planner(const Fp8Inputs& inputs)
      : in_(inputs),
        quantization_(quantization_config(inputs.exported)),
        ignore_(quantization_["ignore"].get<std::vector<std::string>>()) {
    plan_.report.class_name = inputs.exported.config.value("_class_name", std::string());
    plan_.report.profile = inputs.profile != nullptr ? inputs.profile->name : "none";
  }

  Fp8Plan run() {
    for (const TensorInfo& info : weights().tensors()) {
      if (info.name.ends_with(kWeight)) layers_[layer_of(info.name)] = decide(info);
    }
    check_fallbacks();
    fail_with_problems();
    require_quantized();
    find_surplus();
    extend_ignore();
    plan_shards();
    return std::move(plan_);
  }

 private:
  const Checkpoint& weights() const { return *in_.exported.weights; }

  void problem(std::string_view layer, std::string_view what) {
    problems_.push_back(fmt::format("{}: {}", quote(layer), what));
  }

  bool falls_back(std::string_view layer) const {
    return (in_.profile != nullptr && quant::keeps_16_bit(*in_.profile, layer)) ||
           std::ranges::any_of(in_.keep_bf16,
                               [&](const LayerPattern& p) { return p.matches(layer); });
  }

  /// A layer that goes back to 16 bits does so whether the export ignores it or not.
  Layer decide(const TensorInfo& weight) {
    const std::string name = layer_of(weight.name);
    if (falls_back(name)) {
      ++plan_.report.bf16_fallback_weights;
      return {Fate::kFallback};
    }
    if (quant::find_pattern(ignore_, name) != nullptr) {
      ++plan_.report.preserved_ignored_weights;
      return {Fate::kIgnored};
    }
    if (weight.shape.size() != 2) return {Fate::kCopied};
    try {
      return weight.dtype == DType::kF8E4M3 ? decide_fp8(name, weight)
                                            : decide_16_bit(name, weight);
    } catch (const Error& error) {
      problem(name, error.what());
      return {};
    }
  }

  Calibrated calibrated(std::string_view name) const {
    const auto found = in_.calibration.layers().find(name);
    return found == in_.calibration.layers().end() ? Calibrated{} : found->second;
  }

  float scale(const std::string& name, std::string_view quantizer) {
    const CalibratedScale scale = in_.calibration.scale(name, quantizer);
    if (scale.zero_amax) plan_.report.zero_amax.push_back(fmt::format("{}.{}", name, quantizer));
    return scale.value;
  }

  Layer decide_16_bit(const std::string& name, const TensorInfo& weight) {
    const Calibrated has = calibrated(name);
    const std::string differs =
        in_.calibration.difference(name, weights().read(weight.name), std::nullopt);
    if (!differs.empty()) {
      foreign_.push_back(fmt::format("{}: {}", quote(name), differs));
      return {};
    }
    if (!has.weight && !has.input) {
      plan_.report.uncalibrated.push_back(name);
      return {Fate::kCopied};
    }
    if (!has.weight || !has.input) {
      problem(name, fmt::format("the backbone has no {} amax", has.weight ? "input" : "weight"));
      return {};
    }
    if (!is_floating(weight.dtype)) {
      problem(name, fmt::format("its weight is {}, expected a floating-point or F8_E4M3 one",
                                dtype_name(weight.dtype)));
      return {};
    }
    return {Fate::kQuantized, scale(name, "weight_quantizer"), scale(name, "input_quantizer")};
  }

  /// The codes were made with the export's own scale, so that one stays.
  Layer decide_fp8(const std::string& name, const TensorInfo& weight) {
    const Calibrated has = calibrated(name);
    const auto own_weight_scale = own_scale(name, "weight_scale");
    const auto own_input_scale = own_scale(name, "input_scale");
    const auto choose = [&](std::optional<float> own, bool has_amax, std::string_view what,
                            std::string_view quantizer) {
      const auto made = has_amax ? std::optional(scale(name, quantizer)) : std::nullopt;
      if (own && made && !same_scale(*own, *made)) {
        problem(name, fmt::format("its {} is {}, but the backbone's amax makes it {}", what, *own,
                                  *made));
      } else if (!own && !made) {
        problem(name, fmt::format("no {} in the export, no amax in the backbone", what));
      } else if (!own) {
        log::warn("{}: {} has no {}: taken from the backbone", weights().description(), quote(name),
                  what);
      }
      return own ? *own : made.value_or(1.0F);
    };
    const Layer layer{Fate::kKeptFp8,
                      choose(own_weight_scale, has.weight, "weight_scale", "weight_quantizer"),
                      choose(own_input_scale, has.input, "input_scale", "input_quantizer")};
    const std::string differs =
        in_.calibration.difference(name, weights().read(weight.name), layer.weight_scale);
    if (!differs.empty()) foreign_.push_back(fmt::format("{}: {}", quote(name), differs));
    return layer;
  }

  std::optional<float> own_scale(const std::string& layer, std::string_view leaf) const {
    const std::string name = fmt::format("{}.{}", layer, leaf);
    if (weights().find(name) == nullptr) return std::nullopt;
    const Tensor tensor = weights().read(name);
    if (tensor.elements() != 1 || !is_floating(tensor.dtype())) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("its {} is {}, expected one number", leaf, to_string(tensor)));
    }
    std::array<float, 1> value{};
    read_floats(tensor, 0, value);
    if (!std::isfinite(value[0]) || value[0] <= 0) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("its {} is {}, expected a finite number > 0", leaf, value[0]));
    }
    return value[0];
  }

  /// Weights and biases that the base must supply.
  void check_fallbacks() {
    if (plan_.report.bf16_fallback_weights == 0) return;
    if (in_.base == nullptr) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} layers go back to 16 bits (profile {}, {} patterns): "
                              "--base-transformer-dir must name the transformer to take them from",
                              plan_.report.bf16_fallback_weights, plan_.report.profile,
                              in_.keep_bf16.size()));
    }
    for (const TensorInfo& info : weights().tensors()) {
      if (!from_base(info.name)) continue;
      const TensorInfo* base = in_.base->weights->find(info.name);
      if (base == nullptr) {
        problem(info.name, fmt::format("not in {}", in_.base->weights->description()));
      } else if (base->shape != info.shape || !is_floating(base->dtype)) {
        problem(info.name, fmt::format("{} {} in {}, expected floating-point {}",
                                       dtype_name(base->dtype), to_string(base->shape),
                                       in_.base->weights->description(), to_string(info.shape)));
      } else if (info.shape.size() == 2) {
        check_base(info.name);
      }
    }
  }

  /// A base that is another model of the same class would go unnoticed until it draws.
  void check_base(const std::string& weight) {
    const std::string differs =
        in_.calibration.difference(layer_of(weight), in_.base->weights->read(weight), std::nullopt);
    if (differs.empty()) return;
    problem(weight,
            fmt::format("{} is another model's: {}", in_.base->weights->description(), differs));
  }

  Fate fate_of(std::string_view tensor) const {
    const auto found = layers_.find(layer_of(tensor));
    return found == layers_.end() ? Fate::kCopied : found->second.fate;
  }

  bool from_base(std::string_view tensor) const {
    return (tensor.ends_with(kWeight) || tensor.ends_with(".bias")) &&
           fate_of(tensor) == Fate::kFallback;
  }

  void fail_with_problems() const {
    if (!foreign_.empty()) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{} does not belong to {}: {} layers differ: {}",
                              in_.calibration.description(), weights().description(),
                              foreign_.size(), list(foreign_)));
    }
    if (!problems_.empty()) {
      throw Error(ErrorCode::kDataLoss, fmt::format("{}: {} problems: {}", weights().description(),
                                                    problems_.size(), list(problems_)));
    }
  }

  void require_quantized() const {
    const auto is_fp8 = [](const auto& entry) {
      return entry.second.fate == Fate::kQuantized || entry.second.fate == Fate::kKeptFp8;
    };
    if (std::ranges::any_of(layers_, is_fp8)) return;
    throw Error(ErrorCode::kDataLoss,
                fmt::format("no layer of {} would be FP8: {} has amax of {} layers, {} layers of "
                            "the export are ignored, {} go back to 16 bits",
                            weights().description(), in_.calibration.description(),
                            in_.calibration.layers().size(), plan_.report.preserved_ignored_weights,
                            plan_.report.bf16_fallback_weights));
  }

  void find_surplus() {
    for (const auto& [name, has] : in_.calibration.layers()) {
      const auto found = layers_.find(name);
      if (found == layers_.end() || found->second.fate == Fate::kIgnored ||
          found->second.fate == Fate::kCopied) {
        plan_.report.surplus_amax.push_back(name);
      }
    }
  }

  /// A reader takes every linear layer for FP8 that "ignore" does not name.
  void extend_ignore() {
    std::set<std::string> names(ignore_.begin(), ignore_.end());
    for (const auto& [name, layer] : layers_) {
      if (layer.fate != Fate::kFallback && layer.fate != Fate::kCopied) continue;
      if (weights().find(name + std::string(kWeight))->shape.size() < 2) continue;
      if (quant::find_pattern(ignore_, name) != nullptr) continue;
      names.insert(name);
      plan_.report.added_ignore.push_back(name);
    }
    quantization_["ignore"] = names;
    plan_.config = in_.exported.config;
    plan_.config["quantization_config"] = quantization_;
  }

  void plan_shards() {
    std::map<std::string, PlannedShard> shards;
    const std::string serialized = python_json(quantization_);
    for (const FileMetadata& file : weights().file_metadata()) {
      PlannedShard& shard = shards[file.file];
      shard.file = std::filesystem::path(file.file).filename().string();
      shard.metadata = file.entries;
      shard.metadata.emplace("format", "pt");
      shard.metadata["quantization_config"] = serialized;
      shard.metadata["_quantization_metadata"] = serialized;
    }
    for (const TensorInfo& info : weights().tensors()) plan_tensor(info, shards.at(info.file));
    for (auto& [file, shard] : shards) plan_.shards.push_back(std::move(shard));
    plan_.report.output_shards = plan_.shards.size();
  }

  void plan_tensor(const TensorInfo& info, PlannedShard& shard) {
    ModelOptFp8Report& report = plan_.report;
    const Fate fate = fate_of(info.name);
    const bool scale = info.name.ends_with(".weight_scale") || info.name.ends_with(".input_scale");
    if (info.name.find("_quantizer.") != std::string::npos) {
      ++report.dropped_quantizer_tensors;
    } else if (scale && fate != Fate::kCopied && fate != Fate::kIgnored) {
      return;  // a fallback has none, the others get theirs with the weight
    } else if (from_base(info.name)) {
      const TensorInfo& base = *in_.base->weights->find(info.name);
      add(shard, {{info.name, base.dtype, base.shape}, Origin::kBase});
    } else if (info.name.ends_with(kWeight) &&
               (fate == Fate::kQuantized || fate == Fate::kKeptFp8)) {
      plan_weight(info, shard);
    } else {
      ++report.copied_tensors;
      add(shard, {{info.name, info.dtype, info.shape}, Origin::kExport});
    }
  }

  void plan_weight(const TensorInfo& info, PlannedShard& shard) {
    ModelOptFp8Report& report = plan_.report;
    const std::string name = layer_of(info.name);
    const Layer& layer = layers_.at(name);
    const bool kept = layer.fate == Fate::kKeptFp8;
    ++report.quantized_weights;
    report.kept_fp8_weights += kept ? 1 : 0;
    report.added_scale_tensors += 2;
    add(shard, {{info.name, DType::kF8E4M3, info.shape},
                kept ? Origin::kExport : Origin::kQuantize,
                layer.weight_scale});
    add(shard, {{name + ".weight_scale", DType::kF32, {1}}, Origin::kScale, layer.weight_scale});
    add(shard, {{name + ".input_scale", DType::kF32, {1}}, Origin::kScale, layer.input_scale});
  }

  void add(PlannedShard& shard, PlannedTensor tensor) {
    const auto bits =
        checked_mul<std::int64_t>(element_count(tensor.spec.shape), dtype_bits(tensor.spec.dtype));
    plan_.report.total_size += static_cast<std::uint64_t>(bits.value_or(0)) / 8;
    shard.tensors.push_back(std::move(tensor));
  }

  const Fp8Inputs& in_;
  json quantization_;
  std::vector<std::string> ignore_;
  std::map<std::string, Layer, std::less<>> layers_;
  std::vector<std::string> problems_;
  std::vector<std::string> foreign_;
  Fp8Plan plan_;
};

}  // namespace

Fp8Plan plan_modelopt_fp8(const Fp8Inputs& inputs) { return Planner(inputs).run(); }

}  // namespace dither::convert
