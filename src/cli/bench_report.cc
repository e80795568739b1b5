#include "cli/bench_report.h"

#include <fmt/format.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/version.h"
#include "cli/text_table.h"

namespace dither::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string seconds(double ms) { return fmt::format("{:.3f} s", ms * 1e-3); }
std::string milliseconds(double ms) { return fmt::format("{:.1f} ms", ms); }
std::string mebibytes(double bytes) { return fmt::format("{:.0f} MiB", bytes / (1 << 20)); }

/// "933.2 GFLOP", "74.4 TFLOP"; rates alike.
std::string operations(double gflop, std::string_view per, int digits) {
  constexpr double kLarge = 10'000;
  if (gflop >= kLarge) return fmt::format("{:.1f} TFLOP{}", gflop * 1e-3, per);
  return fmt::format("{:.{}f} GFLOP{}", gflop, digits, per);
}

/// One result in the table, and what it is held against.
struct Column {
  BenchFigures now;
  const BenchFigures* saved;  ///< may be null
};

class ReportTable {
 public:
  explicit ReportTable(std::vector<Column> columns)
      : columns_(std::move(columns)), table_(alignments(columns_)) {}

  void heading() {
    std::vector<std::string> cells = {""};
    for (const auto& [now, saved] : columns_) {
      cells.push_back(now.dtype);
      if (saved != nullptr) cells.insert(cells.end(), {"saved", "ratio"});
    }
    table_.add(std::move(cells));
  }

  /// What has no ratio.
  void rate(const std::string& title, const std::function<std::string(const BenchFigures&)>& cell) {
    std::vector<std::string> cells = {title};
    for (const auto& [now, saved] : columns_) {
      cells.push_back(cell(now));
      if (saved != nullptr) cells.insert(cells.end(), {cell(*saved), ""});
    }
    table_.add(std::move(cells));
  }

  /// What is better when it is less. Empty where a result does not have it.
  void cost(const std::string& title,
            const std::function<std::optional<double>(const BenchFigures&)>& value,
            const std::function<std::string(double)>& format) {
    std::vector<std::string> cells = {title};
    for (const auto& [now, saved] : columns_) {
      const std::optional<double> current = value(now);
      cells.push_back(current ? format(*current) : "");
      if (saved == nullptr) continue;
      const std::optional<double> before = value(*saved);
      cells.push_back(before ? format(*before) : "");
      cells.push_back(current && before && *before > 0 ? fmt::format("{:.3f}", *current / *before)
                                                       : "");
    }
    table_.add(std::move(cells));
  }

  std::string to_string() const { return table_.to_string(); }

 private:
  static std::vector<TextTable::Align> alignments(const std::vector<Column>& columns) {
    std::vector<TextTable::Align> result = {TextTable::Align::kLeft};
    for (const Column& column : columns) {
      result.insert(result.end(), column.saved != nullptr ? 3 : 1, TextTable::Align::kRight);
    }
    return result;
  }

  std::vector<Column> columns_;
  TextTable table_;
};

std::vector<Column> make_columns(const std::vector<BenchResult>& results,
                                 const std::vector<BenchFigures>& saved) {
  std::vector<Column> columns;
  for (const BenchResult& result : results) {
    BenchFigures now = bench_figures(result);
    const BenchFigures* const counterpart = find_counterpart(saved, now);
    columns.push_back({std::move(now), counterpart});
  }
  return columns;
}

void add_times(ReportTable& table, const BenchFigures& first) {
  const auto time = [&](const std::string& title, double BenchFigures::* value, auto format) {
    table.cost(title, [value](const BenchFigures& f) { return f.*value; }, format);
  };
  const std::string file = first.num_frames > 0 ? "MP4" : "PNG";
  time("prompt to " + file + ", median", &BenchFigures::total_ms, seconds);
  time("  fastest", &BenchFigures::fastest_ms, seconds);
  time("  slowest", &BenchFigures::slowest_ms, seconds);
  for (const auto& [name, ms] : first.stages_ms) {
    table.cost(
        "  " + name, [&wanted = name](const BenchFigures& f) { return f.stage_ms(wanted); },
        milliseconds);
  }
  time("  " + file, &BenchFigures::encode_png_ms, milliseconds);
  time("denoising step, median", &BenchFigures::step_ms, milliseconds);
}

void add_rates(ReportTable& table) {
  table.rate("  matrix products", [](const auto& f) { return operations(f.step_gflop, "", 3); });
  table.rate("  rate", [](const auto& f) { return operations(f.step_gflop_per_second, "/s", 1); });
  table.rate("  large matrix product",
             [](const auto& f) { return operations(f.peak_gflop_per_second, "/s", 1); });
  table.rate("  share of it", [](const auto& f) {
    return fmt::format("{:.0f} %", 100 * f.step_gflop_per_second / f.peak_gflop_per_second);
  });
}

void add_loading(ReportTable& table) {
  constexpr double kGiga = 1e9;
  table.cost("loading", [](const auto& f) { return f.load_ms; }, seconds);
  table.rate("  weights", [](const auto& f) {
    return f.weight_bytes > 0 ? fmt::format("{:.3f} GB", f.weight_bytes / kGiga) : "";
  });
  table.rate("  rate", [](const auto& f) {
    const std::optional<double> rate = f.load_bytes_per_second();
    return rate ? fmt::format("{:.2f} GB/s", *rate / kGiga) : "";
  });
}

void add_memory(ReportTable& table, const BenchFigures& first) {
  table.cost("peak memory", [](const auto& f) { return f.peak_resident_bytes; }, mebibytes);
  if (first.peak_device_bytes == 0) return;
  const auto of_device = [](const BenchFigures& f) -> std::optional<double> {
    if (f.peak_device_bytes == 0) return std::nullopt;
    return f.peak_device_bytes;
  };
  table.cost("peak device memory", of_device, mebibytes);
  for (const char* stage : {"TextEncodingStage", "DenoisingStage", "DecodingStage"}) {
    table.cost(
        fmt::format("  {}", stage), [stage](const auto& f) { return f.stage_peak(stage); },
        mebibytes);
  }
}

std::string heading(const BenchFigures& figures) {
  std::string weights;
  if (figures.load_format == "dummy") {
    weights = fmt::format(", dummy weights ({})", figures.quantization);
  }
  if (figures.residency != "resident") weights += fmt::format(", {}", figures.residency);
  std::string size = fmt::format("{}x{}", figures.width, figures.height);
  if (figures.num_frames > 0) size += fmt::format("x{}", figures.num_frames);
  return fmt::format("{}{}, {}, {} steps, {}, {} runs\n", figures.model, weights, size,
                     figures.num_inference_steps, figures.device_name, figures.runs);
}

/// Null of a picture.
Json video_json(const ResolvedRequest& request) {
  if (!request.video) return {};
  Json json = {{"num_frames", request.video->num_frames},
               {"guidance_scale", request.guidance_scale},
               {"flow_shift", request.video->flow_shift}};
  if (request.video->guidance_scale_2) json["guidance_scale_2"] = *request.video->guidance_scale_2;
  return json;
}

Json sample_json(const BenchSample& sample) {
  Json stages = Json::object();
  Json peaks = Json::object();
  for (const StageTime& stage : sample.stages) {
    stages[stage.name] = stage.duration_ms;
    peaks[stage.name] = stage.peak_memory_bytes;
  }
  return {{"total_ms", sample.total_ms},
          {"encode_png_ms", sample.encode_png_ms},
          {"stages_ms", stages},
          {"stages_peak_bytes", peaks},
          {"denoise_steps_ms", sample.denoise_steps_ms}};
}

}  // namespace

std::string bench_table(const std::vector<BenchResult>& results,
                        const std::vector<BenchFigures>& saved) {
  const std::vector<Column> columns = make_columns(results, saved);
  const BenchFigures& first = columns.front().now;
  std::string text = heading(first);
  for (const auto& [now, counterpart] : columns) {
    if (counterpart == nullptr) continue;
    if (const std::string other = setting_difference(*counterpart, now); !other.empty()) {
      text += fmt::format("saved was another measurement than {}: {}\n", now.dtype, other);
    }
  }
  ReportTable table(columns);
  table.heading();
  add_times(table, first);
  add_rates(table);
  add_loading(table);
  add_memory(table, first);
  return text + table.to_string();
}

std::string bench_json(const std::vector<BenchResult>& results) {
  Json list = Json::array();
  for (const BenchResult& result : results) {
    const BenchFigures figures = bench_figures(result);
    Json samples = Json::array();
    for (const BenchSample& sample : result.samples) samples.push_back(sample_json(sample));
    list.push_back({{"model", figures.model},
                    {"load_format", figures.load_format},
                    {"dummy_quantization", figures.quantization},
                    {"attention_precision", figures.attention},
                    {"residency", figures.residency},
                    {"weight_precision", figures.weights},
                    {"dtype", figures.dtype},
                    {"device", figures.device},
                    {"device_name", figures.device_name},
                    {"width", figures.width},
                    {"height", figures.height},
                    {"num_inference_steps", figures.num_inference_steps},
                    {"video", video_json(result.request)},
                    {"load_ms", figures.load_ms},
                    {"device_ms", figures.device_ms},
                    {"weight_bytes", result.weight_bytes},
                    {"median_total_ms", figures.total_ms},
                    {"median_step_ms", figures.step_ms},
                    {"step_gflop", figures.step_gflop},
                    {"step_gflop_per_second", figures.step_gflop_per_second},
                    {"peak_gflop_per_second", figures.peak_gflop_per_second},
                    {"peak_resident_bytes", result.peak_resident_bytes},
                    {"peak_device_bytes", result.peak_device_bytes},
                    {"samples", samples}});
  }
  const Json document = {
      {"dither_version", version()}, {"commit_hash", commit_hash()}, {"results", list}};
  return document.dump(2) + "\n";
}

}  // namespace dither::cli
