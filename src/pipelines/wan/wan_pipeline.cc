#include "pipelines/wan/wan_pipeline.h"

#include <array>
#include <utility>

#include "ops/ops.h"
#include "pipelines/decoded_image.h"
#include "pipelines/initial_noise.h"
#include "pipelines/visiting_weights.h"
#include "pipelines/wan/prompt_text.h"
#include "pipelines/wan/unipc_sampler.h"
#include "pipelines/wan/wan_latents.h"

namespace dither {
namespace {

WanLimits limits_of(const ModelFolder& folder, const WanConfigs& configs) {
  return {.model_name = model_name(folder.path()),
          .size_multiple = static_cast<int>(configs.patch()),
          .frame_multiple = static_cast<int>(configs.vae.scale_factor_temporal),
          .max_num_inference_steps = static_cast<int>(configs.scheduler.num_train_timesteps),
          .two_experts = configs.transformer_2.has_value(),
          .picture = configs.picture,
          .suggestions = suggest(configs),
          .defaults = folder.defaults()};
}

/// Expert of a step: 0, or 1 where the timestep is below the boundary.
std::size_t expert_at(const WanConfigs& configs, std::int64_t timestep) {
  if (!configs.boundary_ratio) return 0;
  const double boundary =
      *configs.boundary_ratio * static_cast<double>(configs.scheduler.num_train_timesteps);
  return static_cast<double>(timestep) >= boundary ? 0 : 1;
}

}  // namespace

/// UniPC's steps in float32, whose history goes on where the experts change. Of an expert whose
/// weights come for its steps alone, what it makes of the prompt is computed when they are there;
/// in its last step the next one's begin to come.
class WanPipeline::Sampler final : public FlowSampler {
 public:
  /// `pipeline` outlives the sampler. `condition`: of a picture, absent without one.
  Sampler(WanPipeline& pipeline, const ResolvedRequest& request, Prompts prompts, Tensor condition,
          NoiseLevels levels)
      : pipeline_(pipeline),
        schedule_(pipeline.schedule(request)),
        prompts_(std::move(prompts)),
        condition_(std::move(condition)),
        picture_(condition_.defined() ? pipeline.components_.configs.picture : PictureInput::kNone),
        timesteps_(std::move(levels.timesteps)),
        grid_(pipeline.grid(request)),
        weights_(pipeline.components_.turns.get()) {
    const std::array<double, 2> scales = {
        request.guidance_scale, request.video->guidance_scale_2.value_or(request.guidance_scale)};
    for (std::size_t i = 0; i < pipeline.components_.experts.size(); ++i) {
      Expert& expert = experts_.emplace_back(Expert{.turn = static_cast<int>(i),
                                                    .transformer = pipeline.components_.experts[i],
                                                    .velocity = pipeline.velocities_[i],
                                                    .cfg_scale = static_cast<float>(scales.at(i))});
      if (!pipeline.components_.turns) expert.guidance = guide(expert);
    }
  }

  void begin(const Tensor& noise) override {
    leave();
    unipc_.emplace(schedule_, noise);
    enter(expert_of(0));
  }

  void step(std::int64_t step) override {
    Expert& expert = expert_of(step);
    if (&expert != working_) enter(expert);
    write_input(unipc_->latents(), condition_, picture_, expert.velocity.latents());
    const bool hands_over = pipeline_.components_.turns && is_last_of(expert, step);
    if (hands_over) weights_.expect_last_uses(expert.guidance.value().negative ? 2 : 1);
    const std::int64_t steps = schedule_.num_inference_steps();
    // Not replayed, so that the layers say when they have been used.
    unipc_->step(expert.velocity(step, pipeline_.attention().at(step, steps), hands_over));
  }

  const Tensor& latents() const override { return unipc_->latents(); }

  void end() override {
    if (picture_ == PictureInput::kFirstFrame) {
      ops::copy(condition_, unipc_->latents().slice(1, 0, condition_.dim(1)));
    }
    leave();
  }

 private:
  struct Expert {
    int turn;
    const models::WanTransformer& transformer;
    Velocity& velocity;
    float cfg_scale;
    std::optional<Guidance<models::WanConditioning>> guidance = {};
  };

  Expert& expert_of(std::int64_t step) {
    const std::int64_t timestep = schedule_.timesteps.at(static_cast<std::size_t>(step));
    return experts_.at(expert_at(pipeline_.components_.configs, timestep));
  }

  /// Another expert follows.
  bool is_last_of(const Expert& expert, std::int64_t step) {
    return step + 1 < schedule_.num_inference_steps() && &expert_of(step + 1) != &expert;
  }

  void enter(Expert& expert) {
    weights_.come(expert.turn);
    working_ = &expert;
    if (!expert.guidance) expert.guidance = guide(expert);
    const models::WanConfig& config = expert.transformer.config();
    expert.velocity.begin(*expert.guidance, {1, grid_.tokens(), config.token_width()},
                          {1, grid_.tokens(), config.velocity_width()},
                          pipeline_.components_.dtype);
  }

  void leave() {
    weights_.leave();
    working_ = nullptr;
  }

  Guidance<models::WanConditioning> guide(const Expert& expert) const {
    const auto prepare = [&](const Embeddings& prompt) {
      return expert.transformer.prepare(
          {.prompt_embeds = prompt.front().second,
           .timesteps = timesteps_,
           .grid = grid_,
           .first_frame_given = picture_ == PictureInput::kFirstFrame});
    };
    Guidance<models::WanConditioning> guidance{
        .positive = prepare(prompts_.positive), .negative = {}, .cfg_scale = expert.cfg_scale};
    if (expert.cfg_scale > 1) guidance.negative = prepare(prompts_.negative.value());
    return guidance;
  }

  WanPipeline& pipeline_;
  schedulers::UniPcSchedule schedule_;
  Prompts prompts_;
  Tensor condition_;
  PictureInput picture_;
  std::vector<float> timesteps_;
  models::VideoGrid grid_;
  std::deque<Expert> experts_;
  VisitingWeights weights_;
  Expert* working_ = nullptr;
  std::optional<UniPcSampler> unipc_;
};

WanPipeline::WanPipeline(const ModelFolder& folder, ops::Backend& backend,
                         std::optional<DType> dtype, const PipelineOptions& options)
    : FlowPipeline(backend),
      class_name_(folder.index().class_name),
      components_(load_wan_components(folder, backend, dtype, options)),
      limits_(limits_of(folder, components_.configs)) {
  for (const models::WanTransformer& transformer : components_.experts) {
    velocities_.emplace_back(
        [&transformer](const Tensor& latents, const models::WanConditioning& conditioning,
                       const Tensor& modulations, ops::AttentionPrecision precision) {
          return transformer.velocity(latents, conditioning, modulations, precision);
        },
        backend);
  }
  set_attention(options.attention);
}

RequestResolver WanPipeline::resolver(const ModelFolder& folder) {
  return [limits = limits_of(folder, load_wan_configs(folder))](const GenerateRequest& request) {
    return check_request(request, limits).request;
  };
}

CheckedRequest WanPipeline::check(const GenerateRequest& request) const {
  return check_request(request, limits_);
}

models::VideoGrid WanPipeline::grid(const ResolvedRequest& request) const {
  return {.frames = components_.configs.vae.latent_frames(request.video->num_frames),
          .height = request.height / limits_.size_multiple,
          .width = request.width / limits_.size_multiple};
}

/// Source: diffusers' WanPipeline (_get_t5_prompt_embeds): the encoder's padding is masked and its
/// rows are replaced by zeros, so it need not be computed.
FlowPipeline::Embeddings WanPipeline::encode_prompt(std::string_view option,
                                                    const std::string& text,
                                                    int max_sequence_length,
                                                    std::vector<std::string>& warnings) const {
  const std::string cleaned = clean_prompt(text);
  TokenIds tokens =
      components_.tokenizer->encode_padded(cleaned, static_cast<std::size_t>(max_sequence_length));
  warn_if_truncated(option, "UMT5", tokens, std::string_view(cleaned).substr(tokens.kept_bytes),
                    warnings);
  tokens.ids.resize(tokens.count);
  return {{"prompt_embeds", models::pad_with_zero_rows(components_.text_encoder(id_tensor(tokens)),
                                                       max_sequence_length)}};
}

FlowPipeline::Prompts WanPipeline::encode(const ResolvedRequest& request,
                                          std::vector<std::string>& warnings) const {
  const auto encode = [&](std::string_view option, const std::string& text) {
    return encode_prompt(option, text, request.max_sequence_length, warnings);
  };
  Prompts prompts{.positive = encode("prompt", request.prompt), .negative = {}};
  if (request.guidance_scale > 1 || request.video->guidance_scale_2.value_or(0) > 1) {
    prompts.negative = encode("negative prompt", request.negative_prompt);
  }
  return prompts;
}

FlowPipeline::References WanPipeline::encode_references(const GenerateRequest& request,
                                                        const ResolvedRequest& resolved) const {
  if (request.references.empty()) return {};
  return {.tokens =
              (*components_.picture_encoder)(request.references.front().image, grid(resolved))};
}

schedulers::UniPcSchedule WanPipeline::schedule(const ResolvedRequest& request) const {
  schedulers::UniPcConfig config = components_.configs.scheduler;
  config.flow_shift = request.video->flow_shift;
  return schedulers::unipc_schedule(config, request.num_inference_steps);
}

NoiseLevels WanPipeline::noise_levels(const ResolvedRequest& request) const {
  schedulers::UniPcSchedule levels = schedule(request);
  return {.timesteps = {levels.timesteps.begin(), levels.timesteps.end()},
          .sigmas = std::move(levels.sigmas)};
}

std::unique_ptr<FlowSampler> WanPipeline::prepare(const ResolvedRequest& request,
                                                  const Prompts& prompts,
                                                  const References& references,
                                                  const NoiseLevels& levels) {
  return std::make_unique<Sampler>(*this, request, prompts, references.tokens, levels);
}

/// Noise as diffusers draws it, float32 whatever the model runs in.
Tensor WanPipeline::draw_noise(const ResolvedRequest& request, std::uint64_t seed,
                               NoiseSource noise) const {
  const auto size = grid(request);
  const Shape shape = {1, components_.configs.vae.z_dim, size.frames, 2 * size.height,
                       2 * size.width};
  const Tensor drawn = initial_noise(shape, seed, noise, DType::kF32);
  return pack_video(backend().upload(drawn, DType::kF32), size);
}

/// Frames, or squares of all frames, leave the device in 8 bits as soon as the decoder has them.
std::vector<Image> WanPipeline::decode(const Tensor& latents,
                                       const ResolvedRequest& request) const {
  const Tensor z = unpack_video(latents, grid(request));
  std::vector<Image> images(static_cast<std::size_t>(request.video->num_frames),
                            solid_image(request.width, request.height, 0));
  const auto put = [&](const Tensor& frames, std::size_t first, std::int64_t top,
                       std::int64_t left) {
    const Tensor pixels = backend().download(ops::to_pixels(frames));
    const Shape frame = {1, pixels.dim(2), pixels.dim(3), pixels.dim(4)};
    for (std::int64_t i = 0; i < pixels.dim(1); ++i) {
      paste(pixels.slice(1, i, i + 1).reshape(frame), top, left,
            images.at(first + static_cast<std::size_t>(i)));
    }
  };
  const models::VaeTiles tiles = components_.configs.vae.tiles();
  if (components_.vae_tiling && models::exceeds(tiles, z)) {
    components_.vae.in_tiles(
        z, tiles,
        [&](const Tensor& tile, std::int64_t top, std::int64_t left) { put(tile, 0, top, left); });
    return images;
  }
  std::size_t done = 0;
  components_.vae(z, [&](const Tensor& frames) {
    put(frames, done, 0, 0);
    done += static_cast<std::size_t>(frames.dim(1));
  });
  return images;
}

}  // namespace dither
