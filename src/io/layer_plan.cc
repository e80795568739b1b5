#include "io/layer_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "io/untrusted_name.h"
#include "tensor/host_floats.h"

namespace dither {
namespace {

using quant::Format;
using quant::LayerPlan;

constexpr std::array<std::string_view, 6> kQuantizationLeaves = {".weight_scale", ".weight_scale_2",
                                                                 ".input_scale",  ".scale_weight",
                                                                 ".scale_input",  ".comfy_quant"};

/// What is wrong with a layer; becomes LayerPlan::problem.
Error wrong(const std::string& what) { return {ErrorCode::kDataLoss, what}; }

/// Scales in any order of operations agree to a few units in the last place; ModelOpt computes some
/// in 16 bits.
bool same_scale(float a, float b) { return std::fabs(a - b) <= 0x1p-7F * std::max(a, b); }

}  // namespace

bool is_quantization_tensor(std::string_view name) {
  return name == "scaled_fp8" || name.find("_quantizer.") != std::string_view::npos ||
         std::ranges::any_of(kQuantizationLeaves,
                             [&](std::string_view leaf) { return name.ends_with(leaf); });
}

StoredLayer find_stored_layer(const TensorSource& stored, std::string_view name) {
  const auto find = [&](std::initializer_list<std::string_view> leaves) {
    for (const std::string_view leaf : leaves) {
      if (const TensorInfo* info = stored.find(fmt::format("{}.{}", name, leaf))) return info;
    }
    return static_cast<const TensorInfo*>(nullptr);
  };
  return {.weight = find({"weight"}),
          .weight_scale = find({"weight_scale", "scale_weight", "weight_quantizer._scale"}),
          .weight_scale_2 = find({"weight_scale_2", "weight_quantizer._double_scale"}),
          .input_scale = find({"input_scale", "scale_input"}),
          .comfy = find({"comfy_quant"}) != nullptr};
}

Nvfp4Packing nvfp4_packing(const StoredLayer& layer, const Shape& shape, bool foreign,
                           const quant::Config& config) {
  const bool padded =
      layer.weight_scale->shape != Shape{shape[0], shape[1] / quant::kNvfp4BlockSize};
  const bool tiles = foreign || layer.comfy || padded;
  const bool high_first = config.swap_weight_nibbles.value_or(foreign || layer.comfy);
  return {high_first ? quant::NibbleOrder::kHighFirst : quant::NibbleOrder::kLowFirst,
          tiles ? quant::ScaleLayout::kSwizzled : quant::ScaleLayout::kRowMajor};
}

LayerPlan LayerPlanner::plan(const std::string& name) const {
  const StoredLayer layer = find_stored_layer(stored_, name);
  LayerPlan plan{.name = name, .stored = layer.weight->dtype, .shape = layer.weight->shape};
  try {
    if (plan.stored == DType::kF8E4M3) {
      plan_fp8(layer, plan);
    } else if (plan.stored == DType::kU8) {
      plan_nvfp4(layer, plan);
    } else if (is_floating(plan.stored)) {
      plan_plain(layer, plan);
    } else {
      throw wrong(fmt::format("is {}, which is no format of a weight", dtype_name(plan.stored)));
    }
  } catch (const Error& error) {
    plan.problem = error.what();
  }
  return plan;
}

void LayerPlanner::plan_plain(const StoredLayer& layer, LayerPlan& plan) const {
  if (layer.weight_scale != nullptr || layer.input_scale != nullptr) {
    throw wrong(fmt::format("is {}, but has {}", dtype_name(plan.stored),
                            layer.weight_scale != nullptr ? "a weight_scale" : "an input_scale"));
  }
  if (config_ == nullptr) return;
  const Format format = declared(plan.name);
  if (format == Format::kNone) {
    exclude(plan);
  } else if (format == Format::kFp8 && backbone_ != nullptr) {
    take_from_backbone(plan);
  } else if (profile_ != nullptr && quant::keeps_16_bit(*profile_, plan.name)) {
    plan.fallback = fmt::format("profile {}", profile_->name);
    plan.declared = false;
  } else {
    throw wrong(fmt::format("is {} without scales, but declared {} by {}{}",
                            dtype_name(plan.stored), quant::format_name(format), config_->source,
                            format == Format::kFp8 ? "; --modelopt-backbone may supply them" : ""));
  }
}

/// A scale-less export: the 16-bit weight is quantized on load by the calibrated amax.
void LayerPlanner::take_from_backbone(LayerPlan& plan) const {
  const std::string& backbone = backbone_->description();
  const Tensor weight = stored_.read(plan.name + ".weight");
  if (const std::string how = backbone_->difference(plan.name, weight); !how.empty()) {
    throw wrong(fmt::format("does not belong to {}: {}", backbone, how));
  }
  plan.weight_scale = backbone_->weight_scale(plan.name);
  plan.input_scale = backbone_->input_scale(plan.name);
  if (!plan.weight_scale || !plan.input_scale) {
    throw wrong(
        fmt::format("has no {} amax in {}", plan.weight_scale ? "input" : "weight", backbone));
  }
  plan.format = Format::kFp8;
  plan.scale_source = fmt::format("backbone {}", backbone);
}

void LayerPlanner::plan_fp8(const StoredLayer& layer, LayerPlan& plan) const {
  if (config_ == nullptr) throw wrong("is F8_E4M3, but nothing declares a quantization");
  const Format format = declared(plan.name);
  if (format == Format::kNvfp4) {
    throw wrong(fmt::format("is F8_E4M3, but declared nvfp4 by {}", config_->source));
  }
  plan.scale_source = "checkpoint";
  plan.weight_scale = scale(layer.weight_scale, "weight_scale");
  plan.input_scale = scale(layer.input_scale, "input_scale");
  if (backbone_ != nullptr) {
    const auto fill = [&](std::optional<float>& own, std::optional<float> calibrated,
                          std::string_view what) {
      if (own && calibrated && !same_scale(*own, *calibrated)) {
        throw wrong(fmt::format("has {} {}, but {} makes it {}", what, *own,
                                backbone_->description(), *calibrated));
      }
      if (own || !calibrated) return;
      log::warn("{}: '{}' has no {}: taken from {}", stored_.description(), plan.name, what,
                backbone_->description());
      own = calibrated;
      plan.scale_source = fmt::format("backbone {}", backbone_->description());
    };
    fill(plan.weight_scale, backbone_->weight_scale(plan.name), "weight_scale");
    fill(plan.input_scale, backbone_->input_scale(plan.name), "input_scale");
  }
  if (!plan.weight_scale) throw wrong("is F8_E4M3 without a weight_scale");
  if (format == Format::kNone) {
    exclude(plan);
    plan.fallback_detail += ", dequantized";
    return;
  }
  plan.format = Format::kFp8;
  if (plan.input_scale) return;
  if (!config_->weight_only) throw wrong("is F8_E4M3 without an input_scale");
  plan.fallback = "weight-only storage";
}

void LayerPlanner::plan_nvfp4(const StoredLayer& layer, LayerPlan& plan) const {
  const TensorInfo* scales = layer.weight_scale;
  if (scales == nullptr || scales->dtype != DType::kF8E4M3 || scales->shape.size() < 2) {
    throw wrong("is U8 without block scales (F8_E4M3, two dimensions): no NVFP4 weight");
  }
  plan.stored = DType::kF4E2M1;
  plan.shape = {plan.shape[0], plan.shape[1] * 2};
  if (config_ == nullptr) throw wrong("is packed NVFP4, but nothing declares a quantization");
  if (const Format format = declared(plan.name); format != Format::kNvfp4) {
    throw wrong(fmt::format("is packed NVFP4, but {}",
                            format == Format::kNone
                                ? fmt::format("excluded by {}", exclusion(plan.name))
                                : fmt::format("declared fp8 by {}", config_->source)));
  }
  const std::int64_t cols = plan.shape[1] / quant::kNvfp4BlockSize;
  const std::int64_t stored = element_count(scales->shape);
  const auto needs = [&](quant::ScaleLayout layout) {
    return static_cast<std::int64_t>(quant::nvfp4_scale_bytes(plan.shape[0], cols, layout));
  };
  if (plan.shape[1] % quant::kNvfp4BlockSize != 0 ||
      (scales->shape != Shape{plan.shape[0], cols} &&
       stored != needs(quant::ScaleLayout::kSwizzled))) {
    throw wrong(fmt::format("is NVFP4 {} with block scales {}", to_string(plan.shape),
                            to_string(scales->shape)));
  }
  plan.weight_scale = scale(layer.weight_scale_2, "weight_scale_2");
  if (!plan.weight_scale) throw wrong("is packed NVFP4 without a weight_scale_2");
  plan.input_scale = scale(layer.input_scale, "input_scale");
  plan.format = Format::kNvfp4;
  plan.scale_source = "checkpoint";
}

Format LayerPlanner::declared(std::string_view name) const {
  return quant::format_of(*config_, name);
}

/// The checkpoint says itself that the layer is not quantized. Where that is what the model's
/// profile asks for, it goes by the profile's name.
void LayerPlanner::exclude(LayerPlan& plan) const {
  const bool by_profile = profile_ != nullptr && quant::keeps_16_bit(*profile_, plan.name);
  plan.fallback = by_profile ? fmt::format("profile {}", profile_->name) : "exclusion";
  plan.fallback_detail = exclusion(plan.name);
}

std::string LayerPlanner::exclusion(std::string_view name) const {
  const std::string* pattern = quant::find_pattern(config_->ignore, name);
  return pattern != nullptr ? fmt::format("pattern {}", quote(*pattern))
                            : fmt::format("{}, which does not list it", config_->source);
}

std::optional<float> LayerPlanner::scale(const TensorInfo* info, std::string_view what) const {
  if (info == nullptr) return std::nullopt;
  if (element_count(info->shape) != 1 || !is_floating(info->dtype)) {
    throw wrong(fmt::format("has {} {} {}, expected one number", what, dtype_name(info->dtype),
                            to_string(info->shape)));
  }
  std::array<float, 1> value{};
  read_floats(stored_.read(info->name), 0, value);
  if (!std::isfinite(value[0]) || value[0] <= 0) {
    throw wrong(fmt::format("has {} {}, expected a finite number > 0", what, value[0]));
  }
  return value[0];
}

}  // namespace dither
