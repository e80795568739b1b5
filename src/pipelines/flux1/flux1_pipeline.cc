#include "pipelines/flux1/flux1_pipeline.h"

#include "models/flux/latents.h"
#include "ops/region.h"
#include "pipelines/component_loading.h"
#include "pipelines/decoded_image.h"
#include "pipelines/initial_noise.h"

namespace dither {
namespace {

Flux1Limits limits_of(const ModelFolder& folder, const Flux1Configs& configs) {
  return {.model_name = model_name(folder.path()),
          .size_multiple = static_cast<int>(2 * configs.vae.vae_scale_factor()),
          .max_num_inference_steps = static_cast<int>(configs.scheduler.num_train_timesteps),
          .guidance_embeds = configs.transformer.guidance_embeds,
          .defaults = folder.defaults()};
}

}  // namespace

Flux1Pipeline::Flux1Pipeline(const ModelFolder& folder, ops::Backend& backend,
                             std::optional<DType> dtype, const PipelineOptions& options)
    : FluxPipeline(
          [this](const Tensor& latents, const models::FluxConditioning& conditioning,
                 const Tensor& modulations, ops::AttentionPrecision precision) {
            return components_.transformer.velocity(latents, conditioning, modulations, precision);
          },
          backend),
      components_(load_flux1_components(folder, backend, dtype, options)),
      limits_(limits_of(folder, components_.configs)) {
  set_attention(options.attention);
}

RequestResolver Flux1Pipeline::resolver(const ModelFolder& folder) {
  return [limits = limits_of(folder, load_flux1_configs(folder))](const GenerateRequest& request) {
    return check_request(request, limits).request;
  };
}

CheckedRequest Flux1Pipeline::check(const GenerateRequest& request) const {
  return check_request(request, limits_);
}

FlowPipeline::Embeddings Flux1Pipeline::encode_prompt(std::string_view option,
                                                      const std::string& text,
                                                      int max_sequence_length,
                                                      std::vector<std::string>& warnings) const {
  const auto clip_length =
      static_cast<std::size_t>(components_.configs.text_encoder.max_position_embeddings);
  const TokenIds clip = components_.tokenizer->encode_padded(text, clip_length);
  const TokenIds t5 =
      components_.tokenizer_2->encode_padded(text, static_cast<std::size_t>(max_sequence_length));
  warn_if_truncated(option, "CLIP", clip, text.substr(clip.kept_bytes), warnings);
  warn_if_truncated(option, "T5", t5, text.substr(t5.kept_bytes), warnings);
  Embeddings embeddings;
  {
    const ops::Region region(backend(), "text_encoder_2");
    embeddings.emplace_back("prompt_embeds", components_.text_encoder_2(id_tensor(t5)));
  }
  const ops::Region region(backend(), "text_encoder");
  embeddings.emplace_back("pooled_prompt_embeds", components_.text_encoder(id_tensor(clip)).pooled);
  return embeddings;
}

FlowPipeline::Prompts Flux1Pipeline::encode(const ResolvedRequest& request,
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

schedulers::FlowMatchSchedule Flux1Pipeline::schedule(const ResolvedRequest& request) const {
  return schedulers::flow_match_schedule(components_.configs.scheduler, request.num_inference_steps,
                                         grid(request).tokens());
}

FluxGuidance Flux1Pipeline::guidance(const ResolvedRequest& request, const Prompts& prompts,
                                     const References& /*references*/,
                                     const std::vector<float>& timesteps) const {
  const auto prepare = [&](const Embeddings& prompt) {
    return components_.transformer.prepare(
        {.prompt_embeds = prompt[0].second,
         .pooled_prompt_embeds = prompt[1].second,
         .timesteps = timesteps,
         .guidance_scale = static_cast<float>(request.guidance_scale),
         .grid = grid(request)});
  };
  FluxGuidance guidance{.positive = prepare(prompts.positive),
                        .negative = {},
                        .cfg_scale = static_cast<float>(request.true_cfg_scale)};
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
  const Tensor nhwc = backend().upload(drawn, components_.dtype).permute({0, 2, 3, 1});
  return models::pack_latents(nhwc);
}

Image Flux1Pipeline::decode(const Tensor& latents, models::TokenGrid grid) const {
  const DType vae_dtype = components_.vae_dtype;
  const Tensor wide = ops::cast(latents, wider(latents.dtype(), vae_dtype));
  const Tensor z =
      models::unscale_latents(models::unpack_latents(wide, grid), components_.configs.vae);
  return decode_picture(components_.vae, components_.configs.vae, ops::cast(z, vae_dtype),
                        components_.vae_tiling);
}

}  // namespace dither
