#include "pipelines/flux1/flux1_pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "io/untrusted_name.h"
#include "models/flux1/latents.h"
#include "ops/region.h"
#include "pipelines/decoded_image.h"
#include "pipelines/initial_noise.h"
#include "pipelines/trajectory_recorder.h"
#include "pipelines/visiting_weights.h"

namespace dither {
namespace {

Flux1Limits limits_of(const ModelFolder& folder, const Flux1Configs& configs) {
  return {.model_name = model_name(folder.path()),
          .size_multiple = static_cast<int>(2 * configs.vae.vae_scale_factor()),
          .max_num_inference_steps = static_cast<int>(configs.scheduler.num_train_timesteps),
          .guidance_embeds = configs.transformer.guidance_embeds,
          .defaults = folder.defaults()};
}

/// Throws kUnsupported where the backend or the dtype has no FP8 attention.
AttentionSchedule checked_attention(const AttentionSchedule& schedule, const ops::Backend& backend,
                                    DType dtype) {
  if (!schedule.fp8 || (backend.traits().e4m3_attention && dtype == DType::kBF16)) return schedule;
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("attention precision {}: needs --device cuda and --dtype bf16, this is {} "
                  "in {}",
                  attention_schedule_name(schedule), backend.name(), dtype_name(dtype)));
}

/// [1, L] kI32 in host memory.
Tensor id_tensor(const TokenIds& tokens) {
  Tensor ids = Tensor::host({1, static_cast<std::int64_t>(tokens.ids.size())}, DType::kI32);
  std::ranges::copy(tokens.ids, ids.data<std::int32_t>());
  return ids;
}

void warn_if_truncated(std::string_view option, std::string_view encoder, const TokenIds& tokens,
                       std::string_view text, std::vector<std::string>& warnings) {
  if (!tokens.truncated()) return;
  warnings.push_back(fmt::format("{}: {} reads {} of its {} tokens; cut off: {}", option, encoder,
                                 tokens.count, tokens.full_count,
                                 quote(text.substr(tokens.kept_bytes))));
}

}  // namespace

Flux1Pipeline::Flux1Pipeline(const ModelFolder& folder, ops::Backend& backend,
                             std::optional<DType> dtype, const WeightOptions& weights)
    : backend_(backend),
      components_(load_flux1_components(folder, backend, dtype, weights)),
      limits_(limits_of(folder, components_.configs)),
      attention_(checked_attention(weights.attention, backend, components_.dtype)),
      denoiser_(components_.transformer, backend) {}

ResolvedRequest Flux1Pipeline::resolve(const GenerateRequest& request) const {
  return check_request(request, limits_).request;
}

struct Flux1Pipeline::Run {
  const GenerateRequest& request;
  const ProgressCallback& progress;
  StageClock clock;
  VisitingWeights transformer;
  GenerateResult result = {};
  models::TokenGrid grid = {};
  Prompts prompts = {};
  schedulers::FlowMatchSchedule schedule = {};
  Flux1Guidance guidance = {};
};

GenerateResult Flux1Pipeline::generate(const GenerateRequest& request,
                                       const ProgressCallback& progress) {
  const Clock::time_point begin = Clock::now();
  Run run{.request = request,
          .progress = progress,
          .clock = StageClock(backend_),
          .transformer = VisitingWeights(components_.whole_transformer.get())};
  GenerateResult& result = run.result;
  result.memory_before = process_memory();

  CheckedRequest checked =
      run.clock.measure(Stage::kInputValidation, [&] { return check_request(request, limits_); });
  result.request = std::move(checked.request);
  result.warnings = std::move(checked.warnings);
  run.grid = grid(result.request);
  run.prompts = run.clock.measure(Stage::kTextEncoding,
                                  [&] { return encode_prompts(result.request, result.warnings); });
  run.schedule = run.clock.measure(Stage::kTimestepPreparation, [&] {
    return schedulers::flow_match_schedule(components_.configs.scheduler,
                                           result.request.num_inference_steps, run.grid.tokens());
  });
  run.guidance = run.clock.measure(Stage::kDenoising, [&] {
    run.transformer.come();
    return prepare_guidance(result.request, run.prompts, run.schedule);
  });
  for (int i = 0; i < request.num_outputs_per_prompt; ++i) result.images.push_back(draw(run, i));

  result.stages = run.clock.times();
  result.memory_after = process_memory();
  result.total_duration_ms = elapsed_ms(begin);
  return std::move(result);
}

GeneratedImage Flux1Pipeline::draw(Run& run, int index) {
  GeneratedImage drawn;
  drawn.seed = run.request.seed + static_cast<std::uint64_t>(index);
  const Tensor noise = run.clock.measure(Stage::kLatentPreparation, [&] {
    return draw_noise(run.grid, drawn.seed, run.request.noise);
  });
  std::optional<TrajectoryRecorder> recorder;
  if (run.request.record_trajectory) {
    recorder.emplace(backend_);
    recorder->begin(noise, run.schedule.timesteps, run.schedule.sigmas);
    recorder->record_embedding("prompt_embeds", run.prompts.positive.prompt_embeds);
    recorder->record_embedding("pooled_prompt_embeds", run.prompts.positive.pooled_prompt_embeds);
  }
  const auto on_step = [&](std::int64_t step, const Tensor& latents, double step_ms) {
    run.result.denoise_steps_ms.push_back(step_ms);
    if (recorder) recorder->record_step(step, latents);
    const Progress done{.image = index,
                        .images = run.request.num_outputs_per_prompt,
                        .step = static_cast<int>(step) + 1,
                        .steps = run.result.request.num_inference_steps,
                        .step_ms = step_ms};
    if (run.progress && !run.progress(done)) {
      throw Error(ErrorCode::kCancelled,
                  fmt::format("stopped after step {} of {}", done.step, done.steps));
    }
  };
  const Tensor latents = run.clock.measure(Stage::kDenoising, [&] {
    run.transformer.come();
    Tensor last = denoise(noise, run.guidance, run.schedule, on_step);
    run.transformer.leave();
    return last;
  });
  drawn.image = run.clock.measure(Stage::kDecoding, [&] { return decode(latents, run.grid); });
  if (recorder) drawn.trajectory = recorder->take();
  return drawn;
}

Flux1Pipeline::Prompt Flux1Pipeline::encode_prompt(std::string_view option, const std::string& text,
                                                   int max_sequence_length,
                                                   std::vector<std::string>& warnings) const {
  const auto clip_length =
      static_cast<std::size_t>(components_.configs.text_encoder.max_position_embeddings);
  const TokenIds clip = components_.tokenizer->encode_padded(text, clip_length);
  const TokenIds t5 =
      components_.tokenizer_2->encode_padded(text, static_cast<std::size_t>(max_sequence_length));
  warn_if_truncated(option, "CLIP", clip, text, warnings);
  warn_if_truncated(option, "T5", t5, text, warnings);
  Prompt prompt;
  {
    const ops::Region region(backend_, "text_encoder_2");
    prompt.prompt_embeds = components_.text_encoder_2(id_tensor(t5));
  }
  const ops::Region region(backend_, "text_encoder");
  prompt.pooled_prompt_embeds = components_.text_encoder(id_tensor(clip)).pooled;
  return prompt;
}

Flux1Pipeline::Prompts Flux1Pipeline::encode_prompts(const ResolvedRequest& request,
                                                     std::vector<std::string>& warnings) const {
  const auto encode = [&](std::string_view option, const std::string& text) {
    return encode_prompt(option, text, request.max_sequence_length, warnings);
  };
  Prompts prompts{.positive = encode("prompt", request.prompt), .negative = {}};
  if (request.true_cfg_scale != 1) {
    prompts.negative = encode("negative prompt", request.negative_prompt);
  }
  return prompts;
}

Flux1Guidance Flux1Pipeline::prepare_guidance(const ResolvedRequest& request,
                                              const Prompts& prompts,
                                              const schedulers::FlowMatchSchedule& schedule) const {
  const auto prepare = [&](const Prompt& prompt) {
    return components_.transformer.prepare(
        {.prompt_embeds = prompt.prompt_embeds,
         .pooled_prompt_embeds = prompt.pooled_prompt_embeds,
         .timesteps = schedule.timesteps,
         .guidance_scale = static_cast<float>(request.guidance_scale),
         .grid = grid(request)});
  };
  Flux1Guidance guidance{.positive = prepare(prompts.positive),
                         .negative = {},
                         .true_cfg_scale = static_cast<float>(request.true_cfg_scale)};
  if (prompts.negative) guidance.negative = prepare(*prompts.negative);
  return guidance;
}

models::TokenGrid Flux1Pipeline::grid(const ResolvedRequest& request) const {
  return {.rows = request.height / limits_.size_multiple,
          .cols = request.width / limits_.size_multiple};
}

/// Noise as diffusers draws it, [1, C, 2 rows, 2 cols], packed into tokens [1, rows cols, 4 C].
Tensor Flux1Pipeline::draw_noise(models::TokenGrid grid, std::uint64_t seed,
                                 NoiseSource noise) const {
  const Shape shape = {1, components_.configs.vae.latent_channels, 2 * grid.rows, 2 * grid.cols};
  const Tensor drawn = initial_noise(shape, seed, noise, components_.dtype);
  const Tensor nhwc = backend_.upload(drawn, components_.dtype).permute({0, 2, 3, 1});
  return models::pack_latents(nhwc);
}

Tensor Flux1Pipeline::denoise(const Tensor& noise, const Flux1Guidance& guidance,
                              const schedulers::FlowMatchSchedule& schedule,
                              const StepCallback& on_step) {
  denoiser_.begin(guidance, noise);
  for (std::int64_t step = 0; step < schedule.num_inference_steps(); ++step) {
    const Clock::time_point begin = Clock::now();
    const ops::Region region(backend_, fmt::format("step {}", step + 1));
    denoiser_.step(step, schedule.dt(step), attention_.at(step, schedule.num_inference_steps()));
    backend_.synchronize();
    on_step(step, denoiser_.latents(), elapsed_ms(begin));
  }
  return denoiser_.latents();
}

Image Flux1Pipeline::decode(const Tensor& latents, models::TokenGrid grid) const {
  const Tensor z =
      models::unscale_latents(models::unpack_latents(latents, grid), components_.configs.vae);
  return to_image(backend_.download(ops::to_pixels(components_.vae(z))));
}

}  // namespace dither
