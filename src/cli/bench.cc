#include "cli/bench.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/atomic_file.h"
#include "base/version.h"
#include "cli/bench_report.h"
#include "cli/bench_run.h"
#include "cli/kernel_report.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output_names.h"
#include "cli/request_options.h"

namespace dither::cli {
namespace {

constexpr const char* kNotes = R"(Examples:
  dither bench                                  the demo model as stored
  dither bench --dtype bf16,f32 --runs 10
  dither bench "a cat" --model-path ~/models/flux --num-inference-steps 4 --json flux.json
  dither bench "a cat" --model-path ~/models/flux --num-inference-steps 4 --against flux.json
  dither bench --model-path models/configs/flux1-dev --load-format dummy --device cuda

A run is one request of a loaded model, from the prompt to the PNG on disk. The share of peak
compares the matrix products of a denoising step with a large matrix product of the same dtype,
measured here and now on the same threads.)";

constexpr std::size_t kMaxSavedBytes = std::size_t{64} << 20;

struct BenchOptions {
  std::string prompt = "a red apple";
  ModelOptions model;
  RequestOptions request;
  std::vector<std::string> dtypes = {"auto"};
  int runs = 5;
  int warmup = 1;
  std::optional<std::string> json;
  std::optional<std::string> against;
  std::optional<std::string> profile;
};

void bench(const BenchOptions& options) {
  if (options.json) check_writable(*options.json);
  if (options.profile) check_writable(*options.profile);
  std::vector<BenchFigures> saved;
  if (options.against) {
    saved = parse_bench_json(read_text_file(*options.against, kMaxSavedBytes), *options.against);
  }
  GenerateRequest request;
  request.prompt = options.prompt;
  apply_request_options(options.request, request);

  std::vector<BenchResult> results;
  for (const std::string& dtype : options.dtypes) {
    LoadOptions load = to_load_options(options.model);
    load.dtype = parse_compute_dtype(dtype);
    plan_for(request, load);
    results.push_back(run_bench(load, request,
                                {.warmup = options.warmup,
                                 .measured = options.runs,
                                 .trace = options.profile.has_value()}));
  }
  fmt::print("{}", bench_table(results, saved));
  if (options.json) write_file(*options.json, bench_json(results));
  if (!options.profile) return;
  const BenchResult& last = results.back();
  if (last.kernels.empty()) {
    spdlog::warn("--profile: device {} has no kernels to trace; the file lists none", last.device);
    write_file(*options.profile, chrome_trace({}));
    return;
  }
  const Peaks peaks{.gflop_per_second = last.peak_gflop_per_second,
                    .gb_per_second = last.peak_gb_per_second};
  fmt::print(
      "\nLayers of a request of {} steps ({}): matrix products over the kernels' time, held "
      "against "
      "the large matrix product in {}\n{}",
      kTracedSteps, last.dtype, last.dtype, layer_table(last.kernels, last.work, peaks));
  fmt::print(
      "\nKernels of the same request: products as above, bytes of operands and results held "
      "against a large copy, {:.2f} TB/s\n{}",
      peaks.gb_per_second * 1e-3, kernel_table(last.kernels, last.work, peaks));
  write_file(*options.profile, chrome_trace(last.kernels));
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* const command = app.add_subcommand("bench", "Time a loaded model, prompt to PNG");
  const auto options = std::make_shared<BenchOptions>();
  command->add_option("prompt,--prompt", options->prompt, "What to draw")
      ->take_last()
      ->type_name("TEXT");
  command->add_option("--runs", options->runs, "Measured runs (5)")
      ->check(whole_number(1, 10'000))
      ->take_last()
      ->type_name("N");
  command->add_option("--warmup", options->warmup, "Runs before (1)")
      ->check(whole_number(0, 10'000))
      ->take_last()
      ->type_name("N");
  command
      ->add_option("--profile", options->profile,
                   "Also trace the device's kernels: by layer, and a file for Perfetto")
      ->take_last()
      ->type_name("FILE");
  command->add_option("--json", options->json, "Also write every measurement")
      ->take_last()
      ->type_name("FILE");
  command->add_option("--against", options->against, "Compare with a file that --json wrote")
      ->take_last()
      ->type_name("FILE");
  command
      ->add_option("--dtype", options->dtypes, "auto (as stored), bf16, f32, or a list: bf16,f32")
      ->check(one_of(compute_dtype_names()))
      ->delimiter(',')
      ->type_name("NAME")
      ->group("Model");
  add_request_options(*command, options->request);
  add_model_options(*command, options->model);
  command->footer(kNotes);
  command->callback([options] { bench(*options); });
}

}  // namespace dither::cli
