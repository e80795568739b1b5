#include "pipelines/flux1/flux1_components.h"

#include <array>
#include <string_view>

#include "io/component_weights.h"
#include "io/dummy_weights.h"
#include "pipelines/component_loading.h"
#include "pipelines/dummy_source.h"
#include "tokenizers/byte_tokenizer.h"

namespace dither {
namespace {

constexpr const char* kLargeTextEncoder = "text_encoder_2";  // CLIP has 3 % of T5's weights

/// Where the weights of all components go on this backend.
MemoryPlan plan_flux1_memory(const Flux1Configs& configs, const Flux1Checkpoints& checkpoints,
                             const GenerationDefaults& defaults, DType dtype,
                             const ops::Backend& backend, const PipelineOptions& options) {
  const auto bytes = [&](const char* name, const nn::TensorTable& table,
                         const quant::WeightSource& source, DType computed) {
    return component_bytes(name, table, source, computed,
                           weight_policy(options, name, kLargeTextEncoder));
  };
  const auto& [text_encoder, text_encoder_2, transformer, vae] = checkpoints;
  const DType decoded = vae_dtype(options.vae, dtype);
  // T5's position bias in float32 and the hidden layer of its feed-forward layers.
  const models::T5Config& t5 = configs.text_encoder_2;
  const std::int64_t text = defaults.max_sequence_length.value_or(512);
  const FlowSizes sizes{.width = configs.transformer.width(),
                        .row_widths = 11,  // a bf16 block's stream, norm, q, k, v, attention, MLP
                        .patch = 2 * configs.vae.vae_scale_factor(),
                        .vae_channels = configs.vae.block_out_channels.at(1),
                        .vae_tile = configs.vae.sample_size,
                        .vae_tiling = options.vae_tiling,
                        .text_bytes = 2 * t5.num_heads * text * text * std::int64_t{sizeof(float)} +
                                      6 * text * t5.d_ff * dtype_bits(dtype) / 8};
  return plan_memory(
      {{.bytes = bytes("text_encoder", models::clip_text_table(configs.text_encoder, *text_encoder),
                       *text_encoder, dtype),
        .stage = Stage::kTextEncoding},
       {.bytes = bytes("text_encoder_2",
                       models::t5_encoder_table(configs.text_encoder_2, *text_encoder_2),
                       *text_encoder_2, dtype),
        .stage = Stage::kTextEncoding},
       {.bytes =
            bytes("transformer", models::flux1_table(configs.transformer), *transformer, dtype),
        .stage = Stage::kDenoising,
        .denoiser = true,
        .every_step = models::kFlux1Blocks},
       {.bytes = bytes("vae", models::autoencoder_kl_table(configs.vae, *vae), *vae, decoded),
        .stage = Stage::kDecoding}},
      flow_activation_bytes(sizes, defaults, dtype, decoded), backend.available_memory(),
      options.offload);
}

/// Weights of the shapes that the configs give, in the spelling that the libraries write today.
Flux1Checkpoints make_flux1_dummies(const ModelFolder& folder, const Flux1Configs& configs,
                                    DummyQuantization quantization) {
  DummyNumbers numbers(0);
  const auto make = [&](const char* name, const nn::TensorTable& table,
                        DummyQuantization stored = DummyQuantization::kNone) {
    return make_dummy_source(folder, name, table, numbers, stored);
  };
  return {
      .text_encoder =
          make("text_encoder", models::clip_text_table(configs.text_encoder, no_tensors())),
      .text_encoder_2 =
          make("text_encoder_2", models::t5_encoder_table(configs.text_encoder_2, no_tensors())),
      .transformer = make("transformer", models::flux1_table(configs.transformer), quantization),
      .vae = make("vae", models::autoencoder_kl_table(configs.vae, no_tensors())),
  };
}

std::string fingerprint(const ModelFolder& folder, const Flux1Checkpoints& checkpoints) {
  const std::array<ComponentSource, 4> sources = {{
      {"text_encoder", checkpoints.text_encoder.get()},
      {"text_encoder_2", checkpoints.text_encoder_2.get()},
      {"transformer", checkpoints.transformer.get()},
      {"vae", checkpoints.vae.get()},
  }};
  constexpr std::array<const char*, 2> kTokenizers = {"tokenizer", "tokenizer_2"};
  return model_fingerprint(folder, sources, kTokenizers);
}

}  // namespace

Flux1Checkpoints open_flux1_checkpoints(const ModelFolder& folder, const Flux1Configs& configs,
                                        const PipelineOptions& options) {
  check_load_format(options);
  if (options.format == LoadFormat::kDummy) {
    return make_flux1_dummies(folder, configs, options.dummy_quantization);
  }
  const auto open = [&folder](const char* name, std::string_view stem,
                              const WeightOverrides& overrides = {}) {
    return open_component_weights(folder.component_folder(name), stem, overrides);
  };
  Flux1Checkpoints checkpoints{
      .text_encoder = open("text_encoder", kTransformersStem),
      .text_encoder_2 = open("text_encoder_2", kTransformersStem),
      .transformer = open("transformer", kDiffusersStem, options.transformer),
      .vae = open("vae", kDiffusersStem),
  };
  refuse_foreign(*checkpoints.transformer,
                 {.marker = "time_guidance_embed.timestep_embedder.linear_1.weight",
                  .family = "FLUX.2",
                  .own_family = "FLUX.1",
                  .x_embedder = {configs.transformer.width(), configs.transformer.in_channels}});
  TableChecks checks;
  checks.check(models::clip_text_table(configs.text_encoder, *checkpoints.text_encoder),
               *checkpoints.text_encoder);
  checks.check(models::t5_encoder_table(configs.text_encoder_2, *checkpoints.text_encoder_2),
               *checkpoints.text_encoder_2);
  checks.check(models::flux1_table(configs.transformer), *checkpoints.transformer);
  checks.check(models::autoencoder_kl_table(configs.vae, *checkpoints.vae), *checkpoints.vae);
  checks.finish();
  return checkpoints;
}

Flux1Components load_flux1_components(const ModelFolder& folder, ops::Backend& backend,
                                      std::optional<DType> wanted_dtype,
                                      const PipelineOptions& options) {
  const Flux1Configs configs = load_flux1_configs(folder);
  const Flux1Checkpoints checkpoints = open_flux1_checkpoints(folder, configs, options);
  const DType dtype = choose_dtype(wanted_dtype, *checkpoints.transformer);
  MemoryPlan plan = plan_flux1_memory(configs, checkpoints, planned_defaults(folder, options),
                                      dtype, backend, options);
  ComponentRoots roots(backend, plan);
  const auto root = [&](const char* name, const quant::WeightSource& source, DType computed) {
    return roots.root(name, source, computed, weight_policy(options, name, kLargeTextEncoder));
  };
  std::unique_ptr<ops::WeightTurns> whole;
  if (plan.of("transformer").whole) whole = backend.take_turns();
  Flux1Components components{
      .configs = configs,
      .dtype = dtype,
      .vae_dtype = vae_dtype(options.vae, dtype),
      .vae_tiling = options.vae_tiling,
      .fingerprint = fingerprint(folder, checkpoints),
      .tokenizer = load_checked_tokenizer(
          folder, options.format,
          {"tokenizer", "text_encoder", configs.text_encoder.vocab_size, make_byte_clip_tokenizer}),
      .tokenizer_2 =
          load_checked_tokenizer(folder, options.format,
                                 {"tokenizer_2", "text_encoder_2",
                                  configs.text_encoder_2.vocab_size, make_byte_t5_tokenizer}),
      .text_encoder = {root("text_encoder", *checkpoints.text_encoder, dtype),
                       configs.text_encoder},
      .text_encoder_2 = {root("text_encoder_2", *checkpoints.text_encoder_2, dtype),
                         configs.text_encoder_2},
      .transformer = make_part({.turns = whole.get()},
                               [&] {
                                 return models::Flux1Transformer(
                                     root("transformer", *checkpoints.transformer, dtype),
                                     configs.transformer);
                               }),
      .whole_transformer = std::move(whole),
      .vae = {root("vae", *checkpoints.vae, vae_dtype(options.vae, dtype)), configs.vae},
      .attestation = {},
      .memory_plan = {},
  };
  components.attestation = roots.attest(options.strict_precision);
  components.memory_plan = std::move(plan);
  return components;
}

}  // namespace dither
