#include "cli/inspect_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/progress.h"
#include "cli/text_table.h"
#include "io/untrusted_name.h"
#include "pipelines/png_parameters.h"

namespace dither::cli {
namespace {

using Json = nlohmann::ordered_json;
using Align = TextTable::Align;

/// "1,234,567"
std::string format_count(std::int64_t count) {
  const std::string digits = fmt::format("{}", count);
  std::string grouped;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) grouped += ',';
    grouped += digits[i];
  }
  return grouped;
}

/// "BF16" or "F8_E4M3 + BF16", most bytes first.
std::string dtype_names(const ComponentSummary& component) {
  std::string names;
  for (const DTypeTotal& total : component.dtypes) {
    names += fmt::format("{}{}", names.empty() ? "" : " + ", dtype_name(total.dtype));
  }
  return names;
}

std::string component_table(const CheckpointSummary& summary) {
  TextTable table(
      {Align::kLeft, Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kLeft});
  table.add({"component", "class", "tensors", "parameters", "bytes", "dtype"});
  for (const ComponentSummary& component : summary.components) {
    const bool weights = !component.tensors.empty();
    table.add({component.name, component.class_name,
               weights ? format_count(std::ssize(component.tensors)) : "",
               weights ? format_count(component.parameters) : "",
               weights ? format_bytes(component.bytes) : "", dtype_names(component)});
  }
  return table.to_string();
}

/// Values of a file that we did not write: one line each, of bounded length.
std::string one_line(const std::string& text) {
  const std::string quoted = quote(text);
  return quoted.size() == text.size() + 2 ? text : quoted;
}

/// Text of any length with its control characters escaped, as JSON escapes them.
std::string escaped(const std::string& text) {
  const bool plain =
      std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7F; });
  return plain ? text : Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string config_table(const ComponentSummary& component) {
  TextTable table({Align::kLeft, Align::kLeft});
  for (const auto& [key, value] : component.config) table.add({one_line(key), one_line(value)});
  for (const auto& [key, value] : component.metadata) {
    table.add({fmt::format("metadata {}", one_line(key)), one_line(value)});
  }
  return table.to_string();
}

std::string dtype_table(const ComponentSummary& component) {
  TextTable table({Align::kLeft, Align::kRight, Align::kRight, Align::kRight});
  table.add({"dtype", "tensors", "parameters", "bytes"});
  for (const DTypeTotal& total : component.dtypes) {
    table.add({std::string(dtype_name(total.dtype)), format_count(total.tensors),
               format_count(total.parameters), format_bytes(total.bytes)});
  }
  return table.to_string();
}

std::string tensor_table(const ComponentSummary& component) {
  TextTable table({Align::kLeft, Align::kLeft, Align::kLeft});
  for (const TensorInfo& tensor : component.tensors) {
    table.add(
        {one_line(tensor.name), std::string(dtype_name(tensor.dtype)), to_string(tensor.shape)});
  }
  return table.to_string();
}

/// What a layer is executed as: "FP8", "NVFP4", or its stored dtype.
std::string layer_format(const quant::LayerPlan& plan) {
  if (!plan.problem.empty()) return "unusable";
  if (plan.format == quant::Format::kFp8) return "FP8";
  if (plan.format == quant::Format::kNvfp4) return "NVFP4";
  return std::string(dtype_name(plan.stored));
}

/// "192 FP8 linears, 10 BF16 by exclusion": what the checkpoint calls for, layer by layer.
std::string precision_line(const ComponentSummary& component) {
  std::map<std::pair<std::string, std::string>, int> counts;  // (why, executed as)
  for (const quant::LayerPlan& plan : component.layers)
    ++counts[{plan.fallback, layer_format(plan)}];
  std::string line;
  for (const auto& [key, count] : counts) {
    const auto& [why, format] = key;
    line += fmt::format("{}{} {}{}", line.empty() ? "" : ", ", count, format,
                        why.empty() ? " linears" : fmt::format(" by {}", why));
  }
  return line;
}

std::string layer_table(const ComponentSummary& component) {
  TextTable table(
      {Align::kLeft, Align::kLeft, Align::kLeft, Align::kRight, Align::kRight, Align::kLeft});
  table.add({"layer", "stored", "executed", "weight_scale", "input_scale", "why"});
  const auto scale = [](const std::optional<float>& value) {
    return value ? fmt::format("{:.6g}", *value) : std::string();
  };
  for (const quant::LayerPlan& plan : component.layers) {
    std::string why = plan.problem;
    if (why.empty() && !plan.fallback.empty()) {
      why = fmt::format("{}{}{}{}", plan.fallback, plan.fallback_detail.empty() ? "" : ": ",
                        plan.fallback_detail, plan.declared ? "" : " (not declared)");
    }
    table.add({one_line(plan.name), std::string(dtype_name(plan.stored)), layer_format(plan),
               scale(plan.weight_scale), scale(plan.input_scale), one_line(why)});
  }
  return table.to_string();
}

std::string describe_precision(const ComponentSummary& component, bool layers) {
  if (!component.problem.empty()) return fmt::format("\nunusable: {}\n", component.problem);
  if (component.declared_by.empty()) return {};
  return fmt::format("\n{}: {}\n{}", component.name, precision_line(component),
                     layers ? fmt::format("\n{}", layer_table(component)) : "");
}

Json layer_json(const quant::LayerPlan& plan) {
  const auto scale = [](const std::optional<float>& value) {
    return value ? Json(*value) : Json();
  };
  return {{"name", plan.name},
          {"stored", dtype_name(plan.stored)},
          {"executed", layer_format(plan)},
          {"weight_scale", scale(plan.weight_scale)},
          {"input_scale", scale(plan.input_scale)},
          {"fallback", plan.fallback},
          {"fallback_detail", plan.fallback_detail},
          {"declared", plan.declared},
          {"problem", plan.problem}};
}

std::string describe_defaults(const GenerationDefaults& defaults) {
  std::string text;
  const auto add = [&](const std::string& part) {
    text += fmt::format("{}{}", text.empty() ? "" : ", ", part);
  };
  if (defaults.width && defaults.height) {
    add(fmt::format("{}x{}", *defaults.width, *defaults.height));
  }
  if (defaults.num_inference_steps) add(fmt::format("{} steps", *defaults.num_inference_steps));
  if (defaults.guidance_scale) add(fmt::format("guidance {}", *defaults.guidance_scale));
  if (defaults.max_sequence_length) add(fmt::format("{} tokens", *defaults.max_sequence_length));
  return text;
}

Json tensor_json(const TensorInfo& tensor) {
  return {{"name", tensor.name},
          {"dtype", dtype_name(tensor.dtype)},
          {"shape", std::vector<std::int64_t>(tensor.shape.begin(), tensor.shape.end())}};
}

Json component_json(const ComponentSummary& component, bool tensors) {
  Json config = Json::object();
  for (const auto& [key, value] : component.config) {
    // Already JSON; what is not stays as text.
    Json parsed = Json::parse(value, nullptr, false);
    config[key] = parsed.is_discarded() ? Json(value) : std::move(parsed);
  }
  Json dtypes = Json::array();
  for (const DTypeTotal& total : component.dtypes) {
    dtypes.push_back({{"dtype", dtype_name(total.dtype)},
                      {"tensors", total.tensors},
                      {"parameters", total.parameters},
                      {"bytes", total.bytes}});
  }
  Json json = {{"name", component.name},
               {"class", component.class_name},
               {"path", component.path.string()},
               {"config", config},
               {"metadata", component.metadata},
               {"dtypes", dtypes},
               {"tensor_count", component.tensors.size()},
               {"parameters", component.parameters},
               {"bytes", component.bytes}};
  if (!component.declared_by.empty()) {
    json["declared_by"] = component.declared_by;
    json["precision"] = precision_line(component);
    json["layers"] = Json::array();
    for (const quant::LayerPlan& plan : component.layers)
      json["layers"].push_back(layer_json(plan));
  }
  if (!component.problem.empty()) json["problem"] = component.problem;
  if (tensors) {
    json["tensors"] = Json::array();
    for (const TensorInfo& tensor : component.tensors)
      json["tensors"].push_back(tensor_json(tensor));
  }
  return json;
}

std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string describe(const CheckpointSummary& summary, bool tensors) {
  std::string text = summary.path.string();
  if (!summary.class_name.empty()) text += fmt::format("  {}", summary.class_name);
  text += fmt::format("  {} parameters, {}\n", format_count(summary.parameters),
                      format_bytes(summary.bytes));
  if (summary.kind == CheckpointKind::kPipeline) {
    if (const auto defaults = describe_defaults(summary.defaults); !defaults.empty()) {
      text += fmt::format("draws {} unless told otherwise\n", defaults);
    }
    text += fmt::format("\n{}", component_table(summary));
  }
  for (const ComponentSummary& component : summary.components) {
    if (summary.kind != CheckpointKind::kPipeline) {
      if (!component.class_name.empty()) text += fmt::format("class {}\n", component.class_name);
      for (const std::string& table : {config_table(component), dtype_table(component)}) {
        if (!table.empty()) text += fmt::format("\n{}", table);
      }
    }
    text += describe_precision(component, summary.kind != CheckpointKind::kPipeline);
    if (tensors && !component.tensors.empty()) {
      text += fmt::format("\n{}\n{}", component.name, tensor_table(component));
    }
  }
  return text;
}

std::string describe(const PictureSummary& picture) {
  std::string text =
      fmt::format("{}  {}, {}x{}", picture.path, picture.frames > 0 ? "video" : "PNG",
                  picture.width, picture.height);
  if (picture.frames > 0) text += fmt::format(", {} frames", picture.frames);
  if (picture.fps > 0) text += fmt::format(" at {:.4g} a second", picture.fps);
  text += "\n";
  const bool ours = std::ranges::any_of(
      picture.text, [](const auto& chunk) { return chunk.first == kParametersKey; });
  for (const auto& [keyword, content] : picture.text) {
    if (keyword == kParametersKey) {
      TextTable table({Align::kLeft, Align::kLeft});
      const Json parameters = Json::parse(content, nullptr, false);
      for (const auto& [key, value] : parameters.items()) {
        table.add({key, escaped(value.is_string() ? value.get<std::string>() : value.dump())});
      }
      text += fmt::format("\n{}\nTo draw it again: dither generate --from {}\n", table.to_string(),
                          picture.path);
    } else if (!ours || keyword != kDescriptionKey) {  // which says the same in other words
      text += fmt::format("\n{}\n  {}\n", escaped(keyword), escaped(content));
    }
  }
  return text;
}

std::string to_json(const CheckpointSummary& summary, bool tensors) {
  constexpr const char* kKinds[] = {"pipeline", "component", "file"};
  Json components = Json::array();
  for (const ComponentSummary& component : summary.components) {
    components.push_back(component_json(component, tensors));
  }
  return dump({{"kind", kKinds[static_cast<int>(summary.kind)]},
               {"path", summary.path.string()},
               {"class", summary.class_name},
               {"parameters", summary.parameters},
               {"bytes", summary.bytes},
               {"components", components}});
}

std::string to_json(const PictureSummary& picture) {
  Json json = {{"kind", picture.frames > 0 ? "video" : "picture"},
               {"path", picture.path},
               {"width", picture.width},
               {"height", picture.height}};
  if (picture.frames > 0) {
    json["frames"] = picture.frames;
    json["fps"] = picture.fps > 0 ? Json(picture.fps) : Json();
  }
  Json texts = Json::object();
  for (const auto& [keyword, content] : picture.text) {
    if (keyword == kParametersKey) {
      json["parameters"] = Json::parse(content, nullptr, false);
    } else {
      texts[keyword] = content;
    }
  }
  json["text"] = texts;
  return dump(json);
}

}  // namespace dither::cli
