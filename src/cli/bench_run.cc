#include "cli/bench_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "base/process_memory.h"
#include "cli/interrupt.h"
#include "cli/picture_file.h"
#include "media/png.h"
#include "runtime/peaks.h"
#include "runtime/work_counter.h"

namespace dither::cli {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// A file name of our own in the folder for temporary files, removed in the end.
class TemporaryOutput {
 public:
  explicit TemporaryOutput(OutputKind kind)
      : path_(fs::temp_directory_path() / fmt::format("dither-bench-{}.{}", ::getpid(),
                                                      kind == OutputKind::kVideo ? "mp4" : "png")) {
  }
  ~TemporaryOutput() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  TemporaryOutput(const TemporaryOutput&) = delete;
  TemporaryOutput& operator=(const TemporaryOutput&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

bool go_on(const Progress&) { return interrupt_signal() == 0; }

BenchSample run_once(Pipeline& pipeline, const GenerateRequest& request, const fs::path& path) {
  BenchSample sample;
  const auto start = Clock::now();
  GenerateResult result = pipeline.generate(request, go_on);
  const auto drawn = Clock::now();
  for (const GeneratedOutput& output : result.outputs) {
    if (result.request.video) {
      write_video(path, output.frames, result.request.video->fps, std::nullopt);
    } else {
      write_png(path, output.image());
    }
  }
  sample.encode_png_ms = ms_since(drawn);
  sample.total_ms = ms_since(start);
  sample.stages = std::move(result.stages);
  sample.denoise_steps_ms = std::move(result.denoise_steps_ms);
  return sample;
}

/// A request of two steps minus one of a single step: text encoders and decoder cancel.
double count_step_gflop(Pipeline& pipeline, const WorkCounter& counter, GenerateRequest request) {
  const auto flops_of = [&](int steps) {
    request.num_inference_steps = steps;
    const auto before = counter.flops();
    pipeline.generate(request, go_on);
    return static_cast<double>(counter.flops() - before);
  };
  return (flops_of(2) - flops_of(1)) * 1e-9;
}

}  // namespace

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

BenchResult run_bench(const LoadOptions& options, const GenerateRequest& request,
                      const BenchRuns& runs) {
  const TemporaryOutput output(output_kind(options));
  reset_peak_memory();
  const auto start = Clock::now();
  auto backend = std::make_unique<WorkCounter>(make_backend(options));
  const double device_ms = ms_since(start);
  const WorkCounter& counter = *backend;
  const LoadedPipeline loaded = load_pipeline(options, std::move(backend));
  Pipeline& pipeline = *loaded.pipeline;

  BenchResult result;
  result.load_ms = ms_since(start);
  result.device_ms = device_ms;
  result.weight_bytes = pipeline.memory_plan().stored_bytes();
  std::uint64_t peak_device_bytes = loaded.backend->memory().peak_bytes;
  result.model = options.model_path.string();
  result.dtype = pipeline.dtype() == DType::kF32 ? "f32" : "bf16";
  result.device = loaded.backend->name();
  result.device_name = loaded.backend->description();
  result.load_format = options.pipeline.format;
  result.dummy_quantization = options.pipeline.dummy_quantization;
  result.dummy_quantization_2 = options.pipeline.dummy_quantization_2;
  result.attention = options.pipeline.attention;
  result.residency = summarize(pipeline.memory_plan());
  result.weight_precision = weight_precision_name(options.pipeline);
  result.request = pipeline.resolve(request);
  for (int i = 0; i < runs.warmup; ++i) run_once(pipeline, request, output.path());
  for (int i = 0; i < runs.measured; ++i) {
    result.samples.push_back(run_once(pipeline, request, output.path()));
  }
  // Before the peak's matrices.
  result.peak_resident_bytes = process_memory().peak_resident_bytes;
  for (const BenchSample& sample : result.samples) {
    for (const StageTime& stage : sample.stages) {
      peak_device_bytes = std::max(peak_device_bytes, stage.peak_memory_bytes);
    }
  }
  if (result.device != "cpu") result.peak_device_bytes = peak_device_bytes;
  if (runs.trace) {
    GenerateRequest traced = request;
    traced.num_inference_steps = kTracedSteps;
    result.kernels = loaded.backend->trace([&] { pipeline.generate(traced, go_on); });
    result.work = counter.traced();
    if (!result.kernels.empty()) result.peak_gb_per_second = measure_copy_peak(*loaded.backend);
  }
  result.step_gflop = count_step_gflop(pipeline, counter, request);
  result.peak_gflop_per_second = measure_matmul_peak(*loaded.backend, pipeline.dtype());
  return result;
}

}  // namespace dither::cli
