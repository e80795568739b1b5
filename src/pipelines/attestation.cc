#include "pipelines/attestation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace dither {
namespace {

using Json = nlohmann::ordered_json;

Json or_null(const std::optional<float>& value) { return value ? Json(*value) : Json(); }

Json or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

Json layer_json(const LayerAttestation& layer) {
  const auto& [executed, plan] = layer;
  // A scale that was multiplied into the weight on load is known to the plan only.
  const auto plan_scale = executed.weight_error ? std::nullopt : plan.weight_scale;
  return {{"name", executed.name},
          {"stored", dtype_name(plan.stored)},
          {"resident", dtype_name(executed.resident)},
          {"executed", executed_name(executed)},
          {"kernel", executed.kernel},
          {"weight_scale", or_null(executed.weight_scale ? executed.weight_scale : plan_scale)},
          {"weight_error", executed.weight_error ? Json(*executed.weight_error) : Json()},
          {"input_scale", or_null(executed.input_scale)},
          {"scale_source", or_null(plan.scale_source)},
          {"fallback", or_null(plan.fallback)},
          {"fallback_detail", or_null(plan.fallback_detail)},
          {"declared", plan.declared}};
}

/// ", 57 quantized on load (relative error of the weights: mean 0.014, largest 0.019, blocks.0.q)"
std::string quantized_on_load(const ComponentAttestation& attestation) {
  double sum = 0;
  int count = 0;
  const ops::LinearPrecision* worst = nullptr;
  for (const auto& [executed, plan] : attestation.layers) {
    if (!executed.weight_error) continue;
    sum += *executed.weight_error;
    ++count;
    if (worst == nullptr || *executed.weight_error > *worst->weight_error) worst = &executed;
  }
  if (worst == nullptr) return {};
  return fmt::format(
      ", {} quantized on load (relative error of the weights: mean {:.4f}, largest {:.4f}, {})",
      count, sum / count, *worst->weight_error, worst->name);
}

}  // namespace

bool LayerAttestation::silent() const {
  const bool planned = plan.format == quant::Format::kFp8 && plan.input_scale;
  return planned && executed.product != DType::kF8E4M3;
}

ComponentAttestation attest(std::string component, std::string declared_by,
                            std::span<const ops::LinearPrecision> precision,
                            const quant::WeightSource& source) {
  ComponentAttestation attestation{std::move(component), std::move(declared_by), {}};
  for (const ops::LinearPrecision& executed : precision) {
    const quant::LayerPlan* plan = source.find_layer(executed.name);
    attestation.layers.push_back(
        {executed, plan != nullptr
                       ? *plan
                       : quant::LayerPlan{.name = executed.name, .stored = executed.stored}});
  }
  return attestation;
}

std::string executed_name(const ops::LinearPrecision& executed) {
  return executed.product == DType::kF8E4M3 ? "FP8" : std::string(dtype_name(executed.product));
}

std::string summarize(const ComponentAttestation& attestation) {
  std::map<std::pair<std::string, std::string>, int> counts;  // (why, executed as)
  for (const LayerAttestation& layer : attestation.layers) {
    const bool expanded =
        layer.executed.resident == DType::kF8E4M3 && layer.executed.product != DType::kF8E4M3;
    ++counts[{layer.plan.fallback,
              executed_name(layer.executed) + (expanded ? " of FP8 weights" : "")}];
  }
  std::vector<std::string> parts;
  for (const auto& [key, count] : counts) {
    const auto& [why, name] = key;
    parts.push_back(fmt::format("{} {}{}{}", count, name, why.empty() ? "" : " by ", why));
  }
  const auto silent =
      std::ranges::count_if(attestation.layers, [](const auto& layer) { return layer.silent(); });
  return fmt::format("{}: {}, {} silent{}", attestation.component, fmt::join(parts, ", "), silent,
                     quantized_on_load(attestation));
}

void require_declared_precision(const ComponentAttestation& attestation) {
  constexpr std::size_t kMaxShown = 20;
  std::vector<std::string> fallbacks;
  for (const LayerAttestation& layer : attestation.layers) {
    if (layer.silent()) {
      fallbacks.push_back(fmt::format("{} runs in {} ({})", layer.executed.name,
                                      executed_name(layer.executed), layer.executed.kernel));
    } else if (!layer.plan.declared) {
      fallbacks.push_back(fmt::format("{} is {} by {}", layer.executed.name,
                                      dtype_name(layer.plan.stored), layer.plan.fallback));
    }
  }
  if (fallbacks.empty()) return;
  const std::size_t count = fallbacks.size();
  fallbacks.resize(std::min(count, kMaxShown));
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: {} layers fall back although {} does not declare it: {}{}",
                          attestation.component, count, attestation.declared_by,
                          fmt::join(fallbacks, "; "), count > kMaxShown ? "; ..." : ""));
}

Json to_json(const ComponentAttestation& attestation) {
  Json layers = Json::array();
  for (const LayerAttestation& layer : attestation.layers) layers.push_back(layer_json(layer));
  return {{"component", attestation.component},
          {"declared_by", or_null(attestation.declared_by)},
          {"summary", summarize(attestation)},
          {"layers", layers}};
}

}  // namespace dither
