#include "pipelines/flow_pipeline.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "io/untrusted_name.h"
#include "ops/region.h"
#include "pipelines/trajectory_recorder.h"

namespace dither {

void FlowPipeline::set_attention(const AttentionSchedule& schedule) {
  if (schedule.fp8 && !(backend_.traits().e4m3_attention && dtype() == DType::kBF16)) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("attention precision {}: needs --device cuda and --dtype bf16, this is {} "
                    "in {}",
                    attention_schedule_name(schedule), backend_.name(), dtype_name(dtype())));
  }
  attention_ = schedule;
}

ResolvedRequest FlowPipeline::resolve(const GenerateRequest& request) const {
  return check(request).request;
}

struct FlowPipeline::Run {
  const GenerateRequest& request;
  const ProgressCallback& progress;
  StageClock clock;
  GenerateResult result = {};
  Prompts prompts = {};
  References references = {};
  NoiseLevels levels = {};
  std::unique_ptr<FlowSampler> sampler = {};
};

GenerateResult FlowPipeline::generate(const GenerateRequest& request,
                                      const ProgressCallback& progress) {
  const Clock::time_point begin = Clock::now();
  Run run{.request = request, .progress = progress, .clock = StageClock(backend_)};
  GenerateResult& result = run.result;
  result.memory_before = process_memory();

  CheckedRequest checked =
      run.clock.measure(Stage::kInputValidation, [&] { return check(request); });
  result.request = std::move(checked.request);
  result.warnings = std::move(checked.warnings);
  run.prompts = run.clock.measure(Stage::kTextEncoding,
                                  [&] { return encode(result.request, result.warnings); });
  run.references = run.clock.measure(Stage::kLatentPreparation,
                                     [&] { return encode_references(request, result.request); });
  run.levels =
      run.clock.measure(Stage::kTimestepPreparation, [&] { return noise_levels(result.request); });
  run.sampler = run.clock.measure(Stage::kDenoising, [&] {
    return prepare(result.request, run.prompts, run.references, run.levels);
  });
  for (int i = 0; i < request.num_outputs_per_prompt; ++i) result.outputs.push_back(draw(run, i));

  result.stages = run.clock.times();
  result.memory_after = process_memory();
  result.total_duration_ms = elapsed_ms(begin);
  return std::move(result);
}

GeneratedOutput FlowPipeline::draw(Run& run, int index) {
  GeneratedOutput drawn;
  drawn.seed = run.request.seed + static_cast<std::uint64_t>(index);
  const ResolvedRequest& request = run.result.request;
  const Tensor noise = run.clock.measure(Stage::kLatentPreparation, [&] {
    return draw_noise(request, drawn.seed, run.request.noise);
  });
  std::optional<TrajectoryRecorder> recorder;
  if (run.request.record_trajectory) {
    recorder.emplace(backend_);
    recorder->begin(noise, run.levels.timesteps, run.levels.sigmas);
    for (const auto& [name, tensor] : run.prompts.positive)
      recorder->record_embedding(name, tensor);
  }
  const auto on_step = [&](std::int64_t step, double step_ms) {
    run.result.denoise_steps_ms.push_back(step_ms);
    if (recorder) recorder->record_step(step, run.sampler->latents());
    const Progress done{.image = index,
                        .images = run.request.num_outputs_per_prompt,
                        .step = static_cast<int>(step) + 1,
                        .steps = request.num_inference_steps,
                        .step_ms = step_ms};
    if (run.progress && !run.progress(done)) {
      throw Error(ErrorCode::kCancelled,
                  fmt::format("stopped after step {} of {}", done.step, done.steps));
    }
  };
  const Tensor latents = run.clock.measure(Stage::kDenoising, [&] {
    run.sampler->begin(noise);
    denoise(*run.sampler, run.levels.num_inference_steps(), on_step);
    run.sampler->end();
    return run.sampler->latents();
  });
  drawn.frames = run.clock.measure(Stage::kDecoding, [&] { return decode(latents, request); });
  if (recorder) drawn.trajectory = recorder->take();
  return drawn;
}

template <typename StepCallback>
void FlowPipeline::denoise(FlowSampler& sampler, std::int64_t steps, const StepCallback& on_step) {
  for (std::int64_t step = 0; step < steps; ++step) {
    const Clock::time_point begin = Clock::now();
    const ops::Region region(backend_, fmt::format("step {}", step + 1));
    sampler.step(step);
    backend_.synchronize();
    on_step(step, elapsed_ms(begin));
  }
}

Tensor id_tensor(const TokenIds& tokens) {
  Tensor ids = Tensor::host({1, static_cast<std::int64_t>(tokens.ids.size())}, DType::kI32);
  std::ranges::copy(tokens.ids, ids.data<std::int32_t>());
  return ids;
}

void warn_if_truncated(std::string_view option, std::string_view encoder, const TokenIds& tokens,
                       std::string_view cut_off, std::vector<std::string>& warnings) {
  if (!tokens.truncated()) return;
  warnings.push_back(fmt::format("{}: {} reads {} of its {} tokens; cut off: {}", option, encoder,
                                 tokens.count, tokens.full_count, quote(cut_off)));
}

}  // namespace dither
