#include "runtime/quantize.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "base/atomic_folder.h"
#include "base/error.h"
#include "base/log.h"
#include "base/version.h"
#include "io/component_weights.h"
#include "io/json_config.h"
#include "io/model_folder.h"
#include "io/untrusted_name.h"
#include "pipelines/calibration.h"
#include "quant/config.h"
#include "quant/modelopt_filter.h"
#include "quant/profile.h"

namespace dither {
namespace {

namespace fs = std::filesystem;

struct Selection {
  std::set<std::string, std::less<>> quantized;
  std::vector<std::string> kept;
  std::vector<std::string> ignore;
};

/// Patterns of a profile by name; its '#' (an index) becomes '*'.
std::vector<std::string> profile_patterns(const std::string& name, std::string_view class_name) {
  std::vector<std::string> patterns;
  if (name == "none") return patterns;
  for (const std::string_view pattern : quant::modelopt_filter(class_name)) {
    patterns.emplace_back(pattern);
  }
  if (name == "modelopt") return patterns;
  const quant::Profile* const profile = quant::find_profile(name);
  if (profile == nullptr) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("no profile {}", quote(name)));
  }
  for (std::string pattern :
       std::vector<std::string>(profile->layers.begin(), profile->layers.end())) {
    std::ranges::replace(pattern, '#', '*');
    patterns.push_back(std::move(pattern));
  }
  return patterns;
}

/// A pattern of the user's that matches nothing is a mistake; a profile's may be for a larger
/// model.
void check_patterns(const std::vector<std::string>& patterns,
                    std::span<const quant::LayerPlan> layers) {
  for (const std::string& pattern : patterns) {
    const bool used = std::ranges::any_of(
        layers, [&](const auto& layer) { return quant::matches_pattern(pattern, layer.name); });
    if (!used) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("--ignore {}: no layer has such a name; one is {}", quote(pattern),
                              layers.empty() ? "absent" : layers.front().name));
    }
  }
}

Selection select_layers(const QuantizeOptions& options, std::string_view class_name,
                        const QuantizedCheckpoint& source) {
  const auto layers = source.layers();
  check_patterns(options.ignore, layers);
  Selection selection{
      .quantized = {}, .kept = {}, .ignore = profile_patterns(options.profile, class_name)};
  selection.ignore.insert(selection.ignore.end(), options.ignore.begin(), options.ignore.end());
  for (const quant::LayerPlan& layer : layers) {
    if (layer.format != quant::Format::kNone || layer.stored == DType::kF8E4M3) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: layer '{}' is {} already; quantize the 16-bit model",
                              source.description(), layer.name, dtype_name(layer.stored)));
    }
    if (quant::find_pattern(selection.ignore, layer.name) != nullptr) {
      selection.kept.push_back(layer.name);
    } else {
      selection.quantized.insert(layer.name);
    }
  }
  return selection;
}

/// Output that is the source, or lies inside it, would read what it writes.
void check_output(const QuantizeOptions& options, const fs::path& output, const fs::path& source) {
  const fs::path target = fs::weakly_canonical(output);
  for (const fs::path& input : {fs::canonical(source), fs::canonical(options.load.model_path)}) {
    const auto [end, rest] = std::ranges::mismatch(input, target);
    if (end == input.end() || rest == target.end()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: output overlaps the model {}", output.string(), input.string()));
    }
  }
  if (fs::exists(output) && !options.overwrite) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: exists; --overwrite replaces it", output.string()));
  }
  if (fs::is_directory(output) && !fs::is_empty(output) && !fs::exists(output / "config.json")) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: is not replaced: it holds no config.json and may be something "
                            "else than a checkpoint",
                            output.string()));
  }
}

/// Draws every prompt under observation; `report` learns the number of steps.
std::map<std::string, float> calibrate(const QuantizeOptions& options, const Selection& selection,
                                       const ProgressCallback& progress, QuantizeReport& report) {
  const RequestResolver refuse = make_resolver(options.load);  // before anything is loaded
  std::vector<GenerateRequest> requests;
  for (const std::string& prompt : report.prompts) {
    requests.push_back({.prompt = prompt,
                        .num_inference_steps = options.num_inference_steps,
                        .seed = options.seed + requests.size(),
                        .references = options.references});
    refuse(requests.back());
  }
  const LoadedPipeline loaded = load_pipeline(options.load);
  InputCalibration calibration(options.component, selection.quantized);
  loaded.backend->set_linear_probe(&calibration);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto result = loaded.pipeline->generate(requests[i], [&](Progress step) {
      step.image = static_cast<int>(i);
      step.images = static_cast<int>(requests.size());
      return !progress || progress(step);
    });
    report.num_inference_steps = result.request.num_inference_steps;
    report.image_paths = result.request.image_paths;
  }
  loaded.backend->set_linear_probe(nullptr);
  auto amax = calibration.input_amax(options.input_percentile);
  for (const std::string& layer : selection.quantized) {
    if (!amax.contains(layer)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("layer '{}' of {} never ran in {} steps: give more --n-steps", layer,
                              options.component, report.num_inference_steps));
    }
    if (amax.at(layer) == 0) log::warn("{}: its input was always 0; input_scale is 1", layer);
  }
  return amax;
}

/// Opens what was written as a loader will. Throws kDataLoss.
void verify(const fs::path& folder, const std::vector<Fp8ExportLayer>& layers) {
  const auto written = open_component_weights(folder, kDiffusersStem);
  std::vector<std::string> names;
  for (const Fp8ExportLayer& layer : layers) names.push_back(layer.name);
  written->check_linears(names);
}

std::vector<std::string> choose_prompts(const QuantizeOptions& options, const ModelFolder& folder) {
  std::vector<std::string> prompts =
      options.prompts.empty() ? folder.defaults().example_prompts : options.prompts;
  if (prompts.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: has no example_prompts in dither.json; give --calib-prompts",
                            folder.path().string()));
  }
  return prompts;
}

}  // namespace

std::vector<std::string> quantize_profile_names() {
  std::vector<std::string> names = {"modelopt", "none"};
  for (const quant::Profile& profile : quant::profiles()) names.emplace_back(profile.name);
  return names;
}

QuantizeReport quantize_fp8(const QuantizeOptions& options, const QuantizeCallbacks& callbacks) {
  const ModelFolder model =
      ModelFolder::open(options.load.model_path, options.load.component_paths);
  const fs::path source_folder = model.component_folder(options.component);
  const fs::path output = options.output_dir / options.component;
  check_output(options, output, source_folder);
  const PipelineOptions& pipeline = options.load.pipeline;
  const auto source = open_component_weights(
      source_folder, kDiffusersStem,
      options.component == "transformer_2" ? pipeline.transformer_2 : pipeline.transformer);
  const fs::path config = source_folder / "config.json";
  const auto class_name = JsonConfig::load(config).get<std::string>("_class_name", "");
  const Selection selection = select_layers(options, class_name, *source);

  check_space(output, fp8_export_bytes(source->stored(), selection.quantized));
  AtomicFolder folder(output);  // before the calibration: a place that is not writable shows now

  QuantizeReport report{.transformer = output,
                        .model = options.load.model_path.string(),
                        .prompts = choose_prompts(options, model),
                        .image_paths = {},
                        .num_inference_steps = 0,
                        .seed = options.seed,
                        .profile = options.profile,
                        .input_percentile = options.input_percentile,
                        .ignore = selection.ignore,
                        .layers = {},
                        .kept = selection.kept};
  const Fp8Export what{.source = source->stored(),
                       .config = config,
                       .ignore = selection.ignore,
                       .input_amax = calibrate(options, selection, callbacks.calibration, report),
                       .producer_version = std::string(version())};
  report.layers = write_fp8_export(what, folder.temporary(), callbacks.tensors);
  verify(folder.temporary(), report.layers);
  folder.commit(options.overwrite ? AtomicFolder::Existing::kReplace
                                  : AtomicFolder::Existing::kKeep);
  return report;
}

std::string to_json(const QuantizeReport& report) {
  using Json = nlohmann::ordered_json;
  Json layers = Json::array();
  for (const Fp8ExportLayer& layer : report.layers) {
    layers.push_back({{"name", layer.name},
                      {"weight_amax", layer.weight_amax},
                      {"input_amax", layer.input_amax},
                      {"weight_scale", layer.weight_scale},
                      {"input_scale", layer.input_scale}});
  }
  const Json json = {
      {"model_path", report.model},
      {"transformer", report.transformer.string()},
      {"prompts", report.prompts},
      {"image_paths", report.image_paths},
      {"num_inference_steps", report.num_inference_steps},
      {"seed", report.seed},
      {"profile", report.profile},
      {"input_percentile", report.input_percentile ? Json(*report.input_percentile) : Json()},
      {"ignore", report.ignore},
      {"layers", layers},
      {"kept", report.kept}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace dither
