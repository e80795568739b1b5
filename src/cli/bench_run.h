#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/load.h"
#include "runtime/work_counter.h"

namespace dither::cli {

/// One request, from the prompt to the PNG on disk, or the MP4 of a video.
struct BenchSample {
  double total_ms = 0;
  double encode_png_ms = 0;  ///< encoding and writing the file, of any kind, part of total_ms
  std::vector<StageTime> stages;
  std::vector<double> denoise_steps_ms;
};

/// A model in one dtype. The first sample after the warm-up comes first.
struct BenchResult {
  std::string model;
  std::string dtype;
  std::string device;       ///< "cpu", "cuda"
  std::string device_name;  ///< ops::Backend::description()
  LoadFormat load_format = LoadFormat::kAuto;
  DummyQuantization dummy_quantization = DummyQuantization::kNone;
  std::optional<DummyQuantization> dummy_quantization_2 = {};
  AttentionSchedule attention;
  std::string residency = "resident";        ///< where the weights were: summarize(MemoryPlan)
  std::string weight_precision = "default";  ///< weight_precision_name()
  ResolvedRequest request;
  double load_ms = 0;              ///< from nothing to a pipeline that is ready
  double device_ms = 0;            ///< part of it: until the device is there
  std::uint64_t weight_bytes = 0;  ///< read meanwhile: MemoryPlan::stored_bytes()
  std::vector<BenchSample> samples;
  double step_gflop = 0;             ///< matrix products of one denoising step
  double peak_gflop_per_second = 0;  ///< measured on this machine in this dtype
  std::uint64_t peak_resident_bytes = 0;
  std::uint64_t peak_device_bytes = 0;     ///< of an accelerator's own memory, in use
  std::vector<ops::KernelRecord> kernels;  ///< of the traced request; empty on the CPU
  std::map<std::string, Work> work;        ///< of the same: WorkCounter::traced()
  double peak_gb_per_second = 0;           ///< of copies, where there are kernels
};

struct BenchRuns {
  int warmup = 1;
  int measured = 5;
  bool trace = false;  ///< afterwards, list the kernels of a request of kTracedSteps steps
};

inline constexpr int kTracedSteps = 2;

/// Loads the model, draws the request and measures. Throws what loading and drawing throw.
BenchResult run_bench(const LoadOptions& options, const GenerateRequest& request,
                      const BenchRuns& runs);

/// The middle value, or the mean of the two middle ones. `values` must not be empty.
double median(std::vector<double> values);

}  // namespace dither::cli
