#include "io/quantized_checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "io/json_config.h"
#include "io/quantization_config.h"
#include "io/untrusted_name.h"
#include "quant/fp8.h"
#include "tensor/host_floats.h"

namespace dither {
namespace {

using quant::Format;
using quant::LayerPlan;

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kComfyMarker = "scaled_fp8";
constexpr std::string_view kComfyLayer = ".comfy_quant";

std::string_view without(std::string_view name, std::string_view suffix) {
  return name.substr(0, name.size() - suffix.size());
}

std::span<const std::uint8_t> bytes_of(const Tensor& tensor) {
  return {tensor.data<std::uint8_t>(), tensor.bytes()};
}

/// The layer that a tensor of the quantization belongs to: what comes before its last dot, or
/// before "weight_quantizer." and "input_quantizer.".
std::string_view owner(std::string_view name) {
  if (const auto at = name.find("_quantizer."); at != std::string_view::npos) {
    name = name.substr(0, at);
  }
  return name.substr(0, name.rfind('.'));
}

}  // namespace

QuantizedCheckpoint::QuantizedCheckpoint(std::unique_ptr<Checkpoint> stored, Options options)
    : stored_(std::move(stored)), options_(std::move(options)) {
  read_markers();
  if (options_.backbone && !options_.config) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: nothing declares which layers are quantized, so {} is of no use",
                            description(), options_.backbone->description()));
  }
  const LayerPlanner planner(*stored_, options_.config ? &*options_.config : nullptr,
                             options_.profile, options_.backbone ? &*options_.backbone : nullptr);
  for (const TensorInfo& info : stored_->tensors()) {
    if (info.name.ends_with(kWeight) && info.shape.size() == 2) {
      layers_.push_back(planner.plan(std::string(without(info.name, kWeight))));
    }
  }
  list_tensors();
}

/// Declarations that Comfy writes as tensors: ".comfy_quant" beside a layer, or "scaled_fp8" for
/// all layers with a "scale_weight". Of the latter only dtype and shape count: F32 stands for E4M3,
/// two elements for products in 16 bits. Source: ComfyUI's comfy/utils.py, convert_old_quants.
void QuantizedCheckpoint::read_markers() {
  const TensorInfo* scaled = stored_->find(kComfyMarker);
  if (scaled != nullptr && scaled->dtype != DType::kF8E4M3 && scaled->dtype != DType::kF32) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: 'scaled_fp8' is {}, only F8_E4M3 is supported", description(),
                            dtype_name(scaled->dtype)));
  }
  for (const TensorInfo& info : stored_->tensors()) {
    options_.foreign_nvfp4 |= info.name.starts_with("double_blocks.");
    if (scaled != nullptr && info.name.ends_with(".scale_weight")) {
      declare(std::string(without(info.name, ".scale_weight")), Format::kFp8, kComfyMarker);
    }
    if (!info.name.ends_with(kComfyLayer) || info.dtype != DType::kU8) continue;
    const Tensor text = stored_->read(info.name);
    const auto json = JsonConfig::parse({text.data<char>(), text.bytes()},
                                        fmt::format("{}: {}", description(), quote(info.name)));
    const quant::Config layer = parse_layer_quantization(json);
    declare(std::string(without(info.name, kComfyLayer)), layer.format, info.name);
    options_.config->weight_only |= layer.weight_only;
  }
  // An absent scale_input means products in 16 bits there as well.
  if (scaled != nullptr && options_.config) options_.config->weight_only = true;
}

void QuantizedCheckpoint::declare(const std::string& layer, Format format, std::string_view where) {
  if (!options_.config) {
    options_.config.emplace();
    options_.config->source = fmt::format("{}: tensors {}", description(),
                                          where == kComfyMarker ? kComfyMarker : "comfy_quant");
  }
  quant::Config& config = *options_.config;
  const bool silent = config.format == Format::kNone && !config.layers.contains(layer);
  if (!silent && quant::format_of(config, layer) != format) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: {} says that {} is {}, {} says {}", description(), quote(where),
                            quote(layer), quant::format_name(format), config.source,
                            quant::format_name(quant::format_of(config, layer))));
  }
  config.layers[layer] = format;
}

/// The logical tensors; what is left over of the quantization must belong to one of them.
void QuantizedCheckpoint::list_tensors() {
  std::vector<std::string> problems;
  for (const TensorInfo& info : stored_->tensors()) {
    if (!is_quantization_tensor(info.name)) {
      tensors_.push_back(info);
      const bool weight = info.name.ends_with(kWeight);
      if (const LayerPlan* plan = weight ? find_layer(without(info.name, kWeight)) : nullptr) {
        tensors_.back().shape = plan->shape;
        if (!is_floating(plan->stored)) tensors_.back().dtype = DType::kF32;
      } else if (info.dtype == DType::kF8E4M3 || info.dtype == DType::kF8E5M2) {
        problems.push_back(fmt::format("{} is {} {}: only matrices can be quantized",
                                       quote(stored_->stored_name(info.name)),
                                       dtype_name(info.dtype), to_string(info.shape)));
      }
    } else if (info.name.ends_with("_pre_quant_scale")) {
      problems.push_back(fmt::format("{}: AWQ and SVDQuant are not supported", quote(info.name)));
    } else if (info.name.find("_quantizer.") == std::string::npos && info.name != kComfyMarker &&
               find_layer(owner(info.name)) == nullptr) {
      problems.push_back(fmt::format("{} belongs to no weight", quote(info.name)));
    }
  }
  if (problems.empty()) return;
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: {}", description(), fmt::join(problems, "; ")));
}

const TensorInfo* QuantizedCheckpoint::find(std::string_view name) const {
  const auto it = std::ranges::lower_bound(tensors_, name, {}, &TensorInfo::name);
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

const LayerPlan* QuantizedCheckpoint::find_layer(std::string_view name) const {
  // "a.weight" before "a.b.weight": the plans are in the order of the tensors, not of the layers.
  const auto with_suffix = [](const LayerPlan& plan) { return plan.name + ".weight"; };
  const std::string key = fmt::format("{}{}", name, kWeight);
  const auto it = std::ranges::lower_bound(layers_, key, {}, with_suffix);
  return it != layers_.end() && it->name == name ? &*it : nullptr;
}

/// A layer's name, and the files' own where that is another.
std::string QuantizedCheckpoint::layer_in_message(std::string_view name) const {
  const std::string weight = fmt::format("{}{}", name, kWeight);
  const std::string_view stored = stored_->stored_name(weight);
  if (stored == weight) return quote(name);
  return fmt::format("{} (stored as {})", quote(name), quote(stored));
}

const LayerPlan& QuantizedCheckpoint::usable(std::string_view name) const {
  const LayerPlan* plan = find_layer(name);
  if (plan == nullptr) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: no matrix '{}.weight'", description(), name));
  }
  if (!plan->problem.empty()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: {} {}", description(), layer_in_message(name), plan->problem));
  }
  return *plan;
}

Tensor QuantizedCheckpoint::read(std::string_view name) const {
  const LayerPlan* plan = name.ends_with(kWeight) ? find_layer(without(name, kWeight)) : nullptr;
  if (plan == nullptr || is_floating(plan->stored)) return stored_->read(name);
  return dequantize(usable(plan->name));
}

quant::LinearWeight QuantizedCheckpoint::linear(std::string_view name) const {
  const LayerPlan& plan = usable(name);
  const auto weight = [&] { return stored_->read(plan.name + ".weight"); };
  switch (plan.format) {
    case Format::kFp8:
      return {.weight = plan.stored == DType::kF8E4M3 ? weight() : quantize(plan),
              .weight_scale = plan.weight_scale,
              .input_scale = plan.input_scale,
              .name = plan.name,
              .format = plan.format};
    case Format::kNvfp4:
      return {.weight = expand_nvfp4(plan),
              .weight_scale = plan.weight_scale,
              .input_scale = plan.input_scale,
              .name = plan.name,
              .format = plan.format};
    case Format::kNone:
      break;
  }
  return {.weight = is_floating(plan.stored) ? weight() : dequantize(plan),
          .name = plan.name,
          .left_16_bit = !plan.fallback.empty()};
}

void QuantizedCheckpoint::check_linears(std::span<const std::string> names) const {
  constexpr std::size_t kMaxShown = 20;
  std::vector<std::string> problems;
  for (const std::string& name : names) {
    const LayerPlan* plan = find_layer(name);
    if (plan != nullptr && !plan->problem.empty()) {
      problems.push_back(fmt::format("{} {}", layer_in_message(name), plan->problem));
    }
  }
  if (problems.empty()) return;
  const std::size_t count = problems.size();
  problems.resize(std::min(count, kMaxShown));
  throw Error(
      ErrorCode::kDataLoss,
      fmt::format("{}: {} layers do not fit what is declared about them: {}{}", description(),
                  count, fmt::join(problems, "; "), count > kMaxShown ? "; ..." : ""));
}

std::string_view QuantizedCheckpoint::declared_by() const {
  return options_.config ? std::string_view(options_.config->source) : std::string_view();
}

std::vector<const TensorSource*> QuantizedCheckpoint::stored_sources() const {
  std::vector<const TensorSource*> sources = {stored_.get()};
  if (options_.backbone) sources.push_back(&options_.backbone->tensors());
  return sources;
}

/// The codes' values times their block scales, [N, K] kBF16: exact.
Tensor QuantizedCheckpoint::expand_nvfp4(const LayerPlan& plan) const {
  const StoredLayer layer = find_stored_layer(*stored_, plan.name);
  const Nvfp4Packing packing =
      nvfp4_packing(layer, plan.shape, options_.foreign_nvfp4, *options_.config);
  const Tensor codes = stored_->read(layer.weight->name);
  const Tensor scales = stored_->read(layer.weight_scale->name);
  std::vector<float> values(static_cast<std::size_t>(element_count(plan.shape)));
  quant::nvfp4_expand({.codes = bytes_of(codes),
                       .scales = bytes_of(scales),
                       .weight_scale_2 = *plan.weight_scale,
                       .rows = plan.shape[0],
                       .cols = plan.shape[1],
                       .nibbles = packing.nibbles,
                       .layout = packing.layout},
                      values);
  Tensor expanded = Tensor::host(plan.shape, DType::kBF16);
  std::ranges::transform(values, expanded.data<bf16>(), to_bf16);
  return expanded;
}

/// A 16-bit weight's codes by its plan's scale, row by row.
Tensor QuantizedCheckpoint::quantize(const LayerPlan& plan) const {
  const Tensor weight = stored_->read(plan.name + ".weight");
  Tensor codes = Tensor::host(plan.shape, DType::kF8E4M3);
  std::vector<float> row(static_cast<std::size_t>(plan.shape[1]));
  std::size_t clamped = 0;
  for (std::int64_t n = 0; n < plan.shape[0]; ++n) {
    read_floats(weight, n * plan.shape[1], row);
    try {
      clamped +=
          quant::quantize_weight_e4m3(row, *plan.weight_scale,
                                      {codes.data<std::uint8_t>() + n * plan.shape[1], row.size()})
              .clamped;
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: {} row {}: {}", description(), quote(plan.name), n,
                                            error.what()));
    }
  }
  if (clamped > 0) {
    log::warn("{}: {}: {} weights beyond the calibrated amax were clamped", description(),
              quote(plan.name), clamped);
  }
  stored_->release(weight);
  return codes;
}

/// Real numbers of a quantized weight, [N, K] kF32.
Tensor QuantizedCheckpoint::dequantize(const LayerPlan& plan) const {
  Tensor values = Tensor::host(plan.shape, DType::kF32);
  const std::span out(values.data<float>(), static_cast<std::size_t>(values.elements()));
  if (plan.stored == DType::kF4E2M1) {
    read_floats(expand_nvfp4(plan), 0, out);
    for (float& value : out) value *= *plan.weight_scale;
  } else {
    const Tensor codes = stored_->read(plan.name + ".weight");
    quant::dequantize_e4m3(bytes_of(codes), *plan.weight_scale, out);
    stored_->release(codes);
  }
  return values;
}

}  // namespace dither
