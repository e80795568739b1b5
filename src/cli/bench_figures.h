#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/bench_run.h"

namespace dither::cli {

/// What a bench says about one model in one dtype: medians of measurements made now or saved by
/// --json.
struct BenchFigures {
  std::string model;
  std::string dtype;
  std::string device;        ///< "cpu", "cuda"
  std::string device_name;   ///< "NVIDIA H200, 132 multiprocessors"; empty: not known
  std::string load_format;   ///< "auto", "dummy"
  std::string quantization;  ///< of dummy weights: "none", "fp8-full", "fp8-full+none" of two
  std::string attention;     ///< --attention-precision
  std::string residency;     ///< MemoryPlan::summarize(): "resident"
  std::string weights;       ///< weight_precision_name()
  int width = 0;
  int height = 0;
  int num_frames = 0;  ///< of a video; 0: a picture
  int num_inference_steps = 0;
  int runs = 0;
  double total_ms = 0;  ///< prompt to PNG, median
  double fastest_ms = 0;
  double slowest_ms = 0;
  std::vector<std::pair<std::string, double>> stages_ms;
  double encode_png_ms = 0;
  double step_ms = 0;     ///< median of all runs' steps
  double step_gflop = 0;  ///< matrix products of one step
  double step_gflop_per_second = 0;
  double peak_gflop_per_second = 0;
  double load_ms = 0;
  double device_ms = 0;     ///< of it, until the device was there
  double weight_bytes = 0;  ///< read in the rest of it; 0: not known
  double peak_resident_bytes = 0;
  double peak_device_bytes = 0;  ///< 0: nothing that host memory does not count
  std::vector<std::pair<std::string, double>> stage_peak_bytes;  ///< of device memory

  std::optional<double> stage_peak(std::string_view name) const;
  std::optional<double> stage_ms(std::string_view name) const;
  /// Of the weights, while they were loaded; absent where their size is not known.
  std::optional<double> load_bytes_per_second() const;
};

/// `result` has a sample with a step.
BenchFigures bench_figures(const BenchResult& result);

/// The figures of a document of bench_json(). `path` is for messages. Throws kDataLoss, naming the
/// key, for another document.
std::vector<BenchFigures> parse_bench_json(std::string_view text, std::string_view path);

/// The saved figures that `now` is held against: those of its dtype and load format, else the only
/// ones there are; null where neither.
const BenchFigures* find_counterpart(const std::vector<BenchFigures>& saved,
                                     const BenchFigures& now);

/// What differs between two measurements besides the figures: "1024x1024 -> 512x512, device cpu ->
/// cuda"; empty where they measured the same.
std::string setting_difference(const BenchFigures& saved, const BenchFigures& now);

}  // namespace dither::cli
