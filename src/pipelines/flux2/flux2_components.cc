#include "pipelines/flux2/flux2_components.h"

#include <array>
#include <string_view>

#include "io/component_weights.h"
#include "io/dummy_weights.h"
#include "pipelines/dummy_source.h"
#include "pipelines/flux2/flux2_reference.h"
#include "tokenizers/byte_tokenizer.h"

namespace dither {
namespace {

/// Weights of the shapes that the configs give, in the spelling that the libraries write today.
Flux2Checkpoints make_flux2_dummies(const ModelFolder& folder, const Flux2Configs& configs,
                                    DummyQuantization quantization) {
  DummyNumbers numbers(0);
  const auto make = [&](const char* name, const nn::TensorTable& table,
                        DummyQuantization stored = DummyQuantization::kNone) {
    return make_dummy_source(folder, name, table, numbers, stored);
  };
  return {
      .text_encoder =
          make("text_encoder", models::causal_lm_table(configs.text_encoder, no_tensors())),
      .transformer = make("transformer", models::flux2_table(configs.transformer), quantization),
      .vae = make("vae", models::flux2_vae_table(configs.vae.kl, no_tensors())),
  };
}

std::string fingerprint(const ModelFolder& folder, const Flux2Checkpoints& checkpoints) {
  const std::array<ComponentSource, 3> sources = {{
      {"text_encoder", checkpoints.text_encoder.get()},
      {"transformer", checkpoints.transformer.get()},
      {"vae", checkpoints.vae.get()},
  }};
  constexpr std::array<const char*, 1> kTokenizers = {"tokenizer"};
  return model_fingerprint(folder, sources, kTokenizers);
}

constexpr const char* kTextEncoder = "text_encoder";

/// Keys and values of every block, as they are made and where the steps read them; and in one block
/// behind those of the picture.
std::int64_t kept_rows(const Flux2Configs& configs) {
  if (!configs.variant->references_once) return 0;
  const std::int64_t blocks =
      configs.transformer.num_layers + configs.transformer.num_single_layers;
  return 2 * (2 * blocks + 1);
}

/// Where the weights of all components go on this backend.
MemoryPlan plan_flux2_memory(const Flux2Configs& configs, const Flux2Checkpoints& checkpoints,
                             const GenerationDefaults& defaults, DType dtype,
                             const ops::Backend& backend, const PipelineOptions& options) {
  const auto bytes = [&](const char* name, const nn::TensorTable& table,
                         const quant::WeightSource& source, DType computed) {
    return component_bytes(name, table, source, computed,
                           weight_policy(options, name, kTextEncoder));
  };
  const auto& [text_encoder, transformer, vae] = checkpoints;
  const DType decoded = vae_dtype(options.vae, dtype);
  const models::CausalLmConfig& lm = configs.text_encoder;
  const std::int64_t text = defaults.max_sequence_length.value_or(512);
  const auto patch = static_cast<int>(2 * configs.vae.kl.vae_scale_factor());
  const ReferencePreparation prepare = reference_preparation(options.planned, patch);
  std::vector<ImageSize> references;
  for (const ImageSize& given : options.planned.references) {
    references.push_back(prepare.size(given));
  }
  const FlowSizes sizes{.width = configs.transformer.width(),
                        .row_widths = 14,  // a bf16 block has nine, and kept keys with its own
                        .patch = patch,
                        .vae_channels = configs.vae.kl.block_out_channels.at(1),
                        .vae_tile = configs.vae.kl.sample_size,
                        .vae_tiling = options.vae_tiling,
                        .text_bytes = 6 * text * lm.intermediate_size * dtype_bits(dtype) / 8,
                        .references = std::move(references),
                        .kept_rows = kept_rows(configs)};
  return plan_memory(
      {{.bytes =
            bytes(kTextEncoder, models::causal_lm_table(lm, *text_encoder), *text_encoder, dtype),
        .stage = Stage::kTextEncoding},
       {.bytes =
            bytes("transformer", models::flux2_table(configs.transformer), *transformer, dtype),
        .stage = Stage::kDenoising,
        .denoiser = true,
        .every_step = models::kFlux2Blocks},
       {.bytes = bytes("vae", models::flux2_vae_table(configs.vae.kl, *vae), *vae, decoded),
        .stage = Stage::kDecoding}},
      flow_activation_bytes(sizes, defaults, dtype, decoded), backend.available_memory(),
      options.offload);
}

}  // namespace

Flux2Checkpoints open_flux2_checkpoints(const ModelFolder& folder, const Flux2Configs& configs,
                                        const PipelineOptions& options) {
  check_load_format(options);
  if (options.format == LoadFormat::kDummy) {
    return make_flux2_dummies(folder, configs, options.dummy_quantization);
  }
  const auto open = [&folder](const char* name, std::string_view stem,
                              const WeightOverrides& overrides = {}) {
    return open_component_weights(folder.component_folder(name), stem, overrides);
  };
  Flux2Checkpoints checkpoints{
      .text_encoder = open("text_encoder", kTransformersStem),
      .transformer = open("transformer", kDiffusersStem, options.transformer),
      .vae = open("vae", kDiffusersStem),
  };
  refuse_foreign(*checkpoints.transformer,
                 {.marker = "time_text_embed.timestep_embedder.linear_1.weight",
                  .family = "FLUX.1",
                  .own_family = "FLUX.2",
                  .x_embedder = {configs.transformer.width(), configs.transformer.in_channels}});
  TableChecks checks;
  checks.check(models::causal_lm_table(configs.text_encoder, *checkpoints.text_encoder),
               *checkpoints.text_encoder);
  checks.check(models::flux2_table(configs.transformer), *checkpoints.transformer);
  checks.check(models::flux2_vae_table(configs.vae.kl, *checkpoints.vae), *checkpoints.vae);
  checks.finish();
  return checkpoints;
}

Flux2Components load_flux2_components(const ModelFolder& folder, ops::Backend& backend,
                                      std::optional<DType> wanted_dtype,
                                      const PipelineOptions& options) {
  const Flux2Configs configs = load_flux2_configs(folder);
  const Flux2Checkpoints checkpoints = open_flux2_checkpoints(folder, configs, options);
  const DType dtype = choose_dtype(wanted_dtype, *checkpoints.transformer);
  MemoryPlan plan = plan_flux2_memory(configs, checkpoints, planned_defaults(folder, options),
                                      dtype, backend, options);
  ComponentRoots roots(backend, plan);
  const auto root = [&](const char* name, const quant::WeightSource& source, DType computed) {
    return roots.root(name, source, computed, weight_policy(options, name, kTextEncoder));
  };
  std::unique_ptr<ops::WeightTurns> whole;
  if (plan.of("transformer").whole) whole = backend.take_turns();
  auto tokenizer = load_checked_tokenizer(
      folder, options.format,
      {"tokenizer", "text_encoder", configs.text_encoder.vocab_size, make_byte_chat_tokenizer});
  const nn::WeightScope text_encoder = root("text_encoder", *checkpoints.text_encoder, dtype);
  const nn::WeightScope transformer = root("transformer", *checkpoints.transformer, dtype);
  const DType decoded = vae_dtype(options.vae, dtype);
  const nn::WeightScope vae = root("vae", *checkpoints.vae, decoded);
  Flux2Components components{
      .configs = configs,
      .dtype = dtype,
      .vae_dtype = decoded,
      .vae_tiling = options.vae_tiling,
      .fingerprint = fingerprint(folder, checkpoints),
      .tokenizer = std::move(tokenizer),
      .text_encoder = {text_encoder, configs.text_encoder},
      .transformer =
          make_part({.turns = whole.get()},
                    [&] { return models::Flux2Transformer(transformer, configs.transformer); }),
      .whole_transformer = std::move(whole),
      .vae = {vae, configs.vae.kl},
      .vae_encoder = {vae, configs.vae.kl},
      .latent_norm = {(vae / "bn").with_dtype(wider(dtype, decoded)), configs.vae.batch_norm_eps},
      .attestation = {},
      .memory_plan = {},
  };
  components.attestation = roots.attest(options.strict_precision);
  components.memory_plan = std::move(plan);
  return components;
}

}  // namespace dither
