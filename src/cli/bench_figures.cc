#include "cli/bench_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "io/json_text.h"
#include "io/untrusted_name.h"

namespace dither::cli {
namespace {

using Json = nlohmann::json;

/// Reads keys of a saved document; every objection names the file.
class Saved {
 public:
  Saved(const Json& json, std::string_view path) : json_(json), path_(path) {
    if (!json.is_object()) fail("a result must be an object");
  }

  template <typename T>
  T get(const char* key) const {
    return convert<T>(require(key), key);
  }
  /// Files of older versions lack some keys.
  template <typename T>
  T get(const char* key, T fallback) const {
    return has(key) ? get<T>(key) : std::move(fallback);
  }
  bool has(const char* key) const { return json_.contains(key); }
  const Json& require(const char* key) const {
    const auto it = json_.find(key);
    if (it == json_.end()) fail(fmt::format("has no '{}'", key));
    return *it;
  }
  [[noreturn]] void fail(std::string_view what) const {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: no bench of dither: {}", path_, what));
  }

 private:
  template <typename T>
  T convert(const Json& value, const char* key) const {
    if constexpr (std::is_same_v<T, std::string>) {
      if (!value.is_string()) fail(fmt::format("'{}' must be text", key));
    } else {
      if (!value.is_number()) fail(fmt::format("'{}' must be a number", key));
    }
    return value.get<T>();
  }

  const Json& json_;
  std::string_view path_;
};

std::vector<BenchSample> parse_samples(const Saved& result, std::string_view path) {
  std::vector<BenchSample> samples;
  for (const Json& entry : result.require("samples")) {
    const Saved sample(entry, path);
    BenchSample& parsed = samples.emplace_back();
    parsed.total_ms = sample.get<double>("total_ms");
    parsed.encode_png_ms = sample.get<double>("encode_png_ms");
    const Saved stages(sample.require("stages_ms"), path);
    for (const auto& [name, value] : sample.require("stages_ms").items()) {
      parsed.stages.push_back({name, stages.get<double>(name.c_str())});
    }
    if (sample.has("stages_peak_bytes")) {
      const Saved saved(sample.require("stages_peak_bytes"), path);
      for (StageTime& stage : parsed.stages) {
        stage.peak_memory_bytes =
            static_cast<std::uint64_t>(saved.get<double>(stage.name.c_str(), 0.0));
      }
    }
    for (const Json& step : sample.require("denoise_steps_ms")) {
      if (!step.is_number()) sample.fail("'denoise_steps_ms' must hold numbers");
      parsed.denoise_steps_ms.push_back(step.get<double>());
    }
    if (parsed.denoise_steps_ms.empty()) sample.fail("a sample has no step");
  }
  if (samples.empty()) result.fail("a result has no sample");
  return samples;
}

/// The figures that are medians of samples.
void summarize(const std::vector<BenchSample>& samples, BenchFigures& figures) {
  std::vector<double> totals;
  std::vector<double> encodings;
  std::vector<double> steps;
  for (const BenchSample& sample : samples) {
    totals.push_back(sample.total_ms);
    encodings.push_back(sample.encode_png_ms);
    steps.insert(steps.end(), sample.denoise_steps_ms.begin(), sample.denoise_steps_ms.end());
  }
  for (const StageTime& stage : samples.front().stages) {
    std::vector<double> times;
    std::uint64_t peak = 0;
    for (const BenchSample& sample : samples) {
      for (const StageTime& other : sample.stages) {
        if (other.name != stage.name) continue;
        times.push_back(other.duration_ms);
        peak = std::max(peak, other.peak_memory_bytes);
      }
    }
    figures.stages_ms.emplace_back(stage.name, median(times));
    figures.stage_peak_bytes.emplace_back(stage.name, static_cast<double>(peak));
  }
  figures.runs = static_cast<int>(samples.size());
  figures.total_ms = median(totals);
  figures.fastest_ms = std::ranges::min(totals);
  figures.slowest_ms = std::ranges::max(totals);
  figures.encode_png_ms = median(encodings);
  figures.step_ms = median(steps);
  figures.step_gflop_per_second = figures.step_gflop / (figures.step_ms * 1e-3);
}

/// 0 where the document is of a picture, or of an older version.
int parse_frames(const Saved& result, std::string_view path) {
  if (!result.has("video") || result.require("video").is_null()) return 0;
  return Saved(result.require("video"), path).get<int>("num_frames");
}

std::string quantization_name(const BenchResult& result) {
  std::string name(dummy_quantization_name(result.dummy_quantization));
  if (const auto& second = result.dummy_quantization_2) {
    name += fmt::format("+{}", dummy_quantization_name(*second));
  }
  return name;
}

BenchFigures parse_result(const Json& entry, std::string_view path) {
  const Saved result(entry, path);
  BenchFigures figures{
      .model = result.get<std::string>("model"),
      .dtype = result.get<std::string>("dtype"),
      .device = result.get<std::string>("device"),
      .device_name = result.get<std::string>("device_name", ""),
      .load_format = result.get<std::string>("load_format", "auto"),
      .quantization = result.get<std::string>("dummy_quantization", "none"),
      .attention = result.get<std::string>("attention_precision", "bf16"),
      .residency = result.get<std::string>("residency", "resident"),
      .weights = result.get<std::string>("weight_precision", "default"),
      .width = result.get<int>("width"),
      .height = result.get<int>("height"),
      .num_frames = parse_frames(result, path),
      .num_inference_steps = result.get<int>("num_inference_steps"),
      .stages_ms = {},
      .step_gflop = result.get<double>("step_gflop"),
      .peak_gflop_per_second = result.get<double>("peak_gflop_per_second"),
      .load_ms = result.get<double>("load_ms"),
      .device_ms = result.get<double>("device_ms", 0.0),
      .weight_bytes = result.get<double>("weight_bytes", 0.0),
      .peak_resident_bytes = result.get<double>("peak_resident_bytes"),
      .peak_device_bytes = result.get<double>("peak_device_bytes", 0.0),
      .stage_peak_bytes = {},
  };
  summarize(parse_samples(result, path), figures);
  return figures;
}

}  // namespace

std::optional<double> BenchFigures::stage_ms(std::string_view name) const {
  for (const auto& [stage, ms] : stages_ms) {
    if (stage == name) return ms;
  }
  return std::nullopt;
}

std::optional<double> BenchFigures::stage_peak(std::string_view name) const {
  for (const auto& [stage, bytes] : stage_peak_bytes) {
    if (stage == name && bytes > 0) return bytes;
  }
  return std::nullopt;
}

std::optional<double> BenchFigures::load_bytes_per_second() const {
  if (weight_bytes <= 0 || load_ms <= device_ms) return std::nullopt;
  return weight_bytes / ((load_ms - device_ms) * 1e-3);
}

BenchFigures bench_figures(const BenchResult& result) {
  BenchFigures figures{
      .model = result.model,
      .dtype = result.dtype,
      .device = result.device,
      .device_name = result.device_name,
      .load_format = std::string(load_format_name(result.load_format)),
      .quantization = quantization_name(result),
      .attention = attention_schedule_name(result.attention),
      .residency = result.residency,
      .weights = result.weight_precision,
      .width = result.request.width,
      .height = result.request.height,
      .num_frames = result.request.video ? result.request.video->num_frames : 0,
      .num_inference_steps = result.request.num_inference_steps,
      .stages_ms = {},
      .step_gflop = result.step_gflop,
      .peak_gflop_per_second = result.peak_gflop_per_second,
      .load_ms = result.load_ms,
      .device_ms = result.device_ms,
      .weight_bytes = static_cast<double>(result.weight_bytes),
      .peak_resident_bytes = static_cast<double>(result.peak_resident_bytes),
      .peak_device_bytes = static_cast<double>(result.peak_device_bytes),
      .stage_peak_bytes = {},
  };
  summarize(result.samples, figures);
  return figures;
}

std::vector<BenchFigures> parse_bench_json(std::string_view text, std::string_view path) {
  const Json document = parse_json_object(text, path);
  std::vector<BenchFigures> figures;
  for (const Json& entry : Saved(document, path).require("results")) {
    figures.push_back(parse_result(entry, path));
  }
  return figures;
}

const BenchFigures* find_counterpart(const std::vector<BenchFigures>& saved,
                                     const BenchFigures& now) {
  const auto key = [](const BenchFigures& figures) {
    return std::tie(figures.dtype, figures.load_format, figures.quantization, figures.attention,
                    figures.residency, figures.weights);
  };
  for (const BenchFigures& figures : saved) {
    if (key(figures) == key(now)) return &figures;
  }
  return saved.size() == 1 ? saved.data() : nullptr;
}

std::string setting_difference(const BenchFigures& saved, const BenchFigures& now) {
  std::string text;
  const auto compare = [&](std::string_view what, const std::string& before,
                           const std::string& after) {
    if (before == after) return;
    text +=
        fmt::format("{}{} {} -> {}", text.empty() ? "" : ", ", what, quote(before), quote(after));
  };
  const auto size = [](const BenchFigures& figures) {
    return fmt::format("{}x{}", figures.width, figures.height);
  };
  compare("model", saved.model, now.model);
  compare("dtype", saved.dtype, now.dtype);
  compare("load format", saved.load_format, now.load_format);
  compare("dummy quantization", saved.quantization, now.quantization);
  compare("attention precision", saved.attention, now.attention);
  compare("weights", saved.residency, now.residency);
  compare("weight precision", saved.weights, now.weights);
  compare("size", size(saved), size(now));
  compare("frames", std::to_string(saved.num_frames), std::to_string(now.num_frames));
  compare("steps", std::to_string(saved.num_inference_steps),
          std::to_string(now.num_inference_steps));
  compare("device", saved.device_name.empty() ? saved.device : saved.device_name,
          now.device_name.empty() ? now.device : now.device_name);
  return text;
}

}  // namespace dither::cli
