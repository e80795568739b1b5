#include "cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/version.h"
#include "cli/text_table.h"

namespace dither::cli {
namespace {

using Json = nlohmann::ordered_json;

std::vector<double> totals_ms(const BenchResult& result) {
  std::vector<double> values;
  for (const BenchSample& sample : result.samples) values.push_back(sample.total_ms);
  return values;
}

std::vector<double> steps_ms(const BenchResult& result) {
  std::vector<double> values;
  for (const BenchSample& sample : result.samples) {
    values.insert(values.end(), sample.denoise_steps_ms.begin(), sample.denoise_steps_ms.end());
  }
  return values;
}

std::vector<double> stage_ms(const BenchResult& result, const std::string& name) {
  std::vector<double> values;
  for (const BenchSample& sample : result.samples) {
    for (const StageTime& stage : sample.stages) {
      if (stage.name == name) values.push_back(stage.duration_ms);
    }
  }
  return values;
}

std::vector<double> encode_ms(const BenchResult& result) {
  std::vector<double> values;
  for (const BenchSample& sample : result.samples) values.push_back(sample.encode_png_ms);
  return values;
}

/// GFLOP/s that the median step reaches.
double step_rate(const BenchResult& result) {
  return result.step_gflop / (median(steps_ms(result)) * 1e-3);
}

std::string seconds(double ms) { return fmt::format("{:.3f} s", ms * 1e-3); }
std::string milliseconds(double ms) { return fmt::format("{:.1f} ms", ms); }

}  // namespace

std::string bench_table(const std::vector<BenchResult>& results) {
  using Cell = std::function<std::string(const BenchResult&)>;
  std::vector<TextTable::Align> columns(results.size() + 1, TextTable::Align::kRight);
  columns.front() = TextTable::Align::kLeft;
  TextTable table(columns);
  const auto row = [&](const std::string& title, const Cell& cell) {
    std::vector<std::string> cells = {title};
    for (const BenchResult& result : results) cells.push_back(cell(result));
    table.add(std::move(cells));
  };
  row("", [](const auto& r) { return r.dtype; });
  row("prompt to PNG, median", [](const auto& r) { return seconds(median(totals_ms(r))); });
  row("  fastest", [](const auto& r) { return seconds(std::ranges::min(totals_ms(r))); });
  row("  slowest", [](const auto& r) { return seconds(std::ranges::max(totals_ms(r))); });
  for (const StageTime& stage : results.front().samples.front().stages) {
    row("  " + stage.name,
        [&](const auto& r) { return milliseconds(median(stage_ms(r, stage.name))); });
  }
  row("  PNG", [](const auto& r) { return milliseconds(median(encode_ms(r))); });
  row("denoising step, median", [](const auto& r) { return milliseconds(median(steps_ms(r))); });
  row("  matrix products", [](const auto& r) { return fmt::format("{:.3f} GFLOP", r.step_gflop); });
  row("  rate", [](const auto& r) { return fmt::format("{:.1f} GFLOP/s", step_rate(r)); });
  row("  large matrix product",
      [](const auto& r) { return fmt::format("{:.1f} GFLOP/s", r.peak_gflop_per_second); });
  row("  share of it", [](const auto& r) {
    return fmt::format("{:.0f} %", 100 * step_rate(r) / r.peak_gflop_per_second);
  });
  row("loading", [](const auto& r) { return seconds(r.load_ms); });
  row("peak memory", [](const auto& r) {
    return fmt::format("{:.0f} MiB", static_cast<double>(r.peak_resident_bytes) / (1 << 20));
  });
  const BenchResult& first = results.front();
  return fmt::format("{}, {}x{}, {} steps, {}, {} runs\n{}", first.model, first.request.width,
                     first.request.height, first.request.num_inference_steps, first.device,
                     first.samples.size(), table.to_string());
}

std::string bench_json(const std::vector<BenchResult>& results) {
  Json list = Json::array();
  for (const BenchResult& result : results) {
    Json samples = Json::array();
    for (const BenchSample& sample : result.samples) {
      Json stages = Json::object();
      for (const StageTime& stage : sample.stages) stages[stage.name] = stage.duration_ms;
      samples.push_back({{"total_ms", sample.total_ms},
                         {"encode_png_ms", sample.encode_png_ms},
                         {"stages_ms", stages},
                         {"denoise_steps_ms", sample.denoise_steps_ms}});
    }
    list.push_back({{"model", result.model},
                    {"dtype", result.dtype},
                    {"device", result.device},
                    {"width", result.request.width},
                    {"height", result.request.height},
                    {"num_inference_steps", result.request.num_inference_steps},
                    {"load_ms", result.load_ms},
                    {"median_total_ms", median(totals_ms(result))},
                    {"median_step_ms", median(steps_ms(result))},
                    {"step_gflop", result.step_gflop},
                    {"step_gflop_per_second", step_rate(result)},
                    {"peak_gflop_per_second", result.peak_gflop_per_second},
                    {"peak_resident_bytes", result.peak_resident_bytes},
                    {"samples", samples}});
  }
  const Json document = {
      {"dither_version", version()}, {"commit_hash", commit_hash()}, {"results", list}};
  return document.dump(2) + "\n";
}

}  // namespace dither::cli
