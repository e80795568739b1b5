#include "pipelines/flux2/flux2_pipeline.h"

#include "models/flux/latents.h"
#include "pipelines/decoded_image.h"
#include "pipelines/encoder_input.h"
#include "pipelines/flux2/flux2_reference.h"
#include "pipelines/initial_noise.h"

namespace dither {
namespace {

Flux2GuidanceKind guidance_of(const Flux2Configs& configs) {
  if (configs.transformer.guidance_embeds) return Flux2GuidanceKind::kEmbedded;
  return configs.is_distilled ? Flux2GuidanceKind::kNone : Flux2GuidanceKind::kClassifierFree;
}

Flux2Limits limits_of(const ModelFolder& folder, const Flux2Configs& configs) {
  return {.model_name = model_name(folder.path()),
          .size_multiple = static_cast<int>(2 * configs.vae.kl.vae_scale_factor()),
          .max_num_inference_steps = static_cast<int>(configs.scheduler.num_train_timesteps),
          .guidance = guidance_of(configs),
          .defaults = folder.defaults()};
}

}  // namespace

Flux2Pipeline::Flux2Pipeline(const ModelFolder& folder, ops::Backend& backend,
                             std::optional<DType> dtype, const PipelineOptions& options)
    : FluxPipeline(
          [this](const Tensor& latents, const models::FluxConditioning& conditioning,
                 const Tensor& modulations, ops::AttentionPrecision precision) {
            return components_.transformer.velocity(latents, conditioning, modulations, precision);
          },
          backend),
      components_(load_flux2_components(folder, backend, dtype, options)),
      limits_(limits_of(folder, components_.configs)) {
  set_attention(options.attention);
}

RequestResolver Flux2Pipeline::resolver(const ModelFolder& folder) {
  return [limits = limits_of(folder, load_flux2_configs(folder))](const GenerateRequest& request) {
    return check_request(request, limits).request;
  };
}

CheckedRequest Flux2Pipeline::check(const GenerateRequest& request) const {
  return check_request(request, limits_);
}

models::TokenGrid Flux2Pipeline::grid(const ResolvedRequest& request) const {
  return {.rows = request.height / limits_.size_multiple,
          .cols = request.width / limits_.size_multiple};
}

FlowPipeline::Embeddings Flux2Pipeline::encode_prompt(std::string_view option,
                                                      const std::string& text,
                                                      int max_sequence_length,
                                                      std::vector<std::string>& warnings) const {
  const Flux2Variant& variant = *components_.configs.variant;
  const ChatText chat = variant.chat(text);
  const TokenIds tokens = components_.tokenizer->encode_chat(
      chat.text, static_cast<std::size_t>(max_sequence_length), variant.padding_side);
  warn_if_truncated(option, variant.encoder_name, tokens, chat.cut_off(tokens.kept_bytes),
                    warnings);
  const models::TokenRange real{.first = static_cast<std::int64_t>(tokens.first),
                                .count = static_cast<std::int64_t>(tokens.count)};
  return {{"prompt_embeds", components_.text_encoder(id_tensor(tokens), real)}};
}

FlowPipeline::Prompts Flux2Pipeline::encode(const ResolvedRequest& request,
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

schedulers::FlowMatchSchedule Flux2Pipeline::schedule(const ResolvedRequest& request) const {
  const std::int64_t steps = request.num_inference_steps;
  return schedulers::flow_match_schedule_for_mu(
      components_.configs.scheduler, steps, schedulers::flux2_mu(grid(request).tokens(), steps));
}

/// Source: diffusers' Flux2Pipeline (_encode_vae_image, prepare_image_latents).
FlowPipeline::References Flux2Pipeline::encode_references(
    const GenerateRequest& request, const ResolvedRequest& /*resolved*/) const {
  const ReferencePreparation prepare =
      reference_preparation(extent_of(request), limits_.size_multiple);
  References encoded;
  std::vector<Tensor> tokens;
  for (const ReferenceImage& reference : request.references) {
    const Image image = prepare(reference.image);
    const Tensor pixels = backend().upload(to_pixels(image), components_.vae_dtype);
    const Tensor z = ops::cast(components_.vae_encoder(pixels), components_.scaling_dtype());
    tokens.push_back(
        ops::cast(components_.latent_norm.normalize(models::pack_latents(z)), components_.dtype));
    encoded.grids.push_back({.rows = image.height / limits_.size_multiple,
                             .cols = image.width / limits_.size_multiple});
  }
  if (!tokens.empty()) encoded.tokens = ops::concat(tokens, 1);
  return encoded;
}

FluxGuidance Flux2Pipeline::guidance(const ResolvedRequest& request, const Prompts& prompts,
                                     const References& references,
                                     const std::vector<float>& timesteps) const {
  const auto prepare = [&](const Embeddings& prompt) {
    return components_.transformer.prepare(
        {.prompt_embeds = prompt.front().second,
         .timesteps = timesteps,
         .guidance_scale = static_cast<float>(request.guidance_scale),
         .grid = grid(request),
         .reference_grids = references.grids,
         .reference = references.tokens,
         .references_once = components_.configs.variant->references_once});
  };
  FluxGuidance guidance{.positive = prepare(prompts.positive),
                        .negative = {},
                        .cfg_scale = static_cast<float>(request.true_cfg_scale)};
  if (prompts.negative) guidance.negative = prepare(*prompts.negative);
  return guidance;
}

/// Noise as diffusers draws it, [1, 4 C, rows, cols]: of whole tokens, unlike FLUX.1's.
Tensor Flux2Pipeline::draw_noise(models::TokenGrid grid, std::uint64_t seed,
                                 NoiseSource noise) const {
  const std::int64_t channels = components_.configs.transformer.in_channels;
  const Tensor drawn =
      initial_noise({1, channels, grid.rows, grid.cols}, seed, noise, components_.dtype);
  const Tensor tokens = backend().upload(drawn, components_.dtype).permute({0, 2, 3, 1});
  return ops::contiguous(tokens).reshape({1, grid.tokens(), channels});
}

Image Flux2Pipeline::decode(const Tensor& latents, models::TokenGrid grid) const {
  const Tensor wide = ops::cast(latents, components_.scaling_dtype());
  const Tensor z = models::unpack_latents(components_.latent_norm.denormalize(wide), grid);
  return decode_picture(components_.vae, components_.configs.vae.kl,
                        ops::cast(z, components_.vae_dtype), components_.vae_tiling);
}

}  // namespace dither
