#include "pipelines/wan/wan_components.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "io/component_weights.h"
#include "io/dummy_weights.h"
#include "models/vae/wan_memory.h"
#include "pipelines/dummy_source.h"
#include "tokenizers/byte_tokenizer.h"

namespace dither {
namespace {

constexpr const char* kTextEncoder = "text_encoder";
constexpr std::array<const char*, 2> kExperts = {"transformer", "transformer_2"};

/// An expert's name, config and weights.
struct ExpertSource {
  const char* name;
  const models::WanConfig* config;
  const quant::WeightSource* source;
};

std::vector<ExpertSource> experts_of(const WanConfigs& configs, const WanCheckpoints& checkpoints) {
  std::vector<ExpertSource> experts = {
      {kExperts[0], &configs.transformer, checkpoints.transformer.get()}};
  if (configs.transformer_2) {
    experts.push_back({kExperts[1], &*configs.transformer_2, checkpoints.transformer_2.get()});
  }
  return experts;
}

/// Weights of the shapes that the configs give, in the spelling that the libraries write today.
WanCheckpoints make_wan_dummies(const ModelFolder& folder, const WanConfigs& configs,
                                const PipelineOptions& options) {
  DummyNumbers numbers(0);
  const auto make = [&](const char* name, const nn::TensorTable& table,
                        DummyQuantization stored = DummyQuantization::kNone) {
    return make_dummy_source(folder, name, table, numbers, stored);
  };
  const DummyQuantization first = options.dummy_quantization;
  WanCheckpoints checkpoints{
      .text_encoder =
          make(kTextEncoder, models::t5_encoder_table(configs.text_encoder, no_tensors())),
      .transformer = make(kExperts[0], models::wan_table(configs.transformer), first),
      .transformer_2 = {},
      .vae = make("vae", models::wan_vae_table(configs.vae)),
  };
  if (configs.transformer_2) {
    checkpoints.transformer_2 = make(kExperts[1], models::wan_table(*configs.transformer_2),
                                     options.dummy_quantization_2.value_or(first));
  }
  return checkpoints;
}

std::string fingerprint(const ModelFolder& folder, const WanConfigs& configs,
                        const WanCheckpoints& checkpoints) {
  std::vector<ComponentSource> sources = {{kTextEncoder, checkpoints.text_encoder.get()}};
  for (const ExpertSource& expert : experts_of(configs, checkpoints)) {
    sources.emplace_back(expert.name, expert.source);
  }
  sources.emplace_back("vae", checkpoints.vae.get());
  constexpr std::array<const char*, 1> kTokenizers = {"tokenizer"};
  return model_fingerprint(folder, sources, kTokenizers);
}

/// cuDNN's float32 convolutions work on copies in another layout.
std::int64_t float32_copies(DType dtype) { return dtype == DType::kF32 ? 2 : 1; }

/// Of a frame of height x width, how many pixels go through the autoencoder at once.
std::int64_t pixels_at_once(std::int64_t height, std::int64_t width, std::int64_t tile,
                            const PipelineOptions& options) {
  return options.vae_tiling ? std::min(height, tile) * std::min(width, tile) : height * width;
}

/// What decoding latents [1, frames, height, width, C] takes.
std::int64_t decoder_bytes(const models::WanVaeConfig& vae, std::int64_t frames,
                           std::int64_t height, std::int64_t width, DType dtype,
                           const PipelineOptions& options, const ops::Backend& backend) {
  const DType decoded = vae_dtype(options.vae, dtype);
  const std::int64_t size = vae.tiles().size;
  const bool tiled = options.vae_tiling && std::max(height, width) > size;
  const auto [history, working] = models::wan_decoder_elements(
      vae, pixels_at_once(height, width, size, options),
      [&](std::int64_t channels) { return backend.conv3d_row_channels(channels, decoded); });
  const std::int64_t joined = tiled ? models::wan_tile_elements(vae, frames, height, width) : 0;
  return (history + float32_copies(decoded) * working + joined) * dtype_bits(decoded) / 8;
}

/// What encoding a picture takes for latents of that size: nothing where there will be none.
std::int64_t encoder_bytes(const WanConfigs& configs, std::int64_t frames, std::int64_t height,
                           std::int64_t width, DType dtype, const PipelineOptions& options,
                           const ops::Backend& backend) {
  const bool alone = configs.picture == PictureInput::kFirstFrame;
  const bool none = alone && options.planned.references.empty();
  if (none || configs.picture == PictureInput::kNone) return 0;
  const models::WanVaeConfig& vae = configs.vae;
  const DType encoded = vae_dtype(options.vae, dtype);
  const std::int64_t tile = vae.encoded_tiles().size / vae.scale_factor_spatial;
  const auto [history, working] = models::wan_encoder_elements(
      vae, pixels_at_once(height, width, tile, options),
      alone ? 1 : (frames - 1) * vae.scale_factor_temporal + 1,
      [&](std::int64_t channels) { return backend.conv3d_row_channels(channels, encoded); });
  // The picture, and the gray frames of a chunk.
  const std::int64_t pixels = (1 + vae.scale_factor_temporal) * height * width *
                              vae.scale_factor_spatial * vae.scale_factor_spatial *
                              vae.image_channels();
  return (history + float32_copies(encoded) * working + pixels) * dtype_bits(encoded) / 8;
}

/// What a video of the planned size takes on the device beside the weights: shares of the
/// widest tensors, and of the autoencoder what it has at once. A picture is encoded beside the same
/// weights as videos are decoded.
ActivationBytes activation_bytes(const WanConfigs& configs, const GenerationDefaults& defaults,
                                 DType dtype, const PipelineOptions& options,
                                 const ops::Backend& backend) {
  constexpr std::size_t kLibraries = std::size_t{256} << 20U;  // their scratch memory
  // Of a block: the stream, its norm, q, k and v, attention. Measured on an H100: 6 in FP8.
  constexpr std::int64_t kRowWidths = 8;
  const WanSuggestions suggested = suggest(configs);
  const std::int64_t element = dtype_bits(dtype) / 8;
  const std::int64_t width = defaults.width.value_or(suggested.width);
  const std::int64_t height = defaults.height.value_or(suggested.height);
  const std::int64_t frames =
      configs.vae.latent_frames(defaults.num_frames.value_or(suggested.num_frames));
  const std::int64_t tokens = frames * width * height / (configs.patch() * configs.patch());
  const std::int64_t text = defaults.max_sequence_length.value_or(512);
  // Every expert's recorded step keeps its own; a step that is called has as much meanwhile. Each
  // keeps its blocks' keys and values of two texts.
  const std::int64_t experts = configs.transformer_2 ? 2 : 1;
  const std::int64_t step = kRowWidths * tokens * configs.transformer.width() * element;
  const std::int64_t kept =
      step + 2 * configs.transformer.num_layers * 2 * text * configs.transformer.width() * element;
  const std::int64_t scale = configs.vae.scale_factor_spatial;
  const auto bytes = [&](std::int64_t more) { return kLibraries + static_cast<std::size_t>(more); };
  const auto decoding = [&](const PipelineOptions& how) {
    return bytes(experts * kept + std::max(decoder_bytes(configs.vae, frames, height / scale,
                                                         width / scale, dtype, how, backend),
                                           encoder_bytes(configs, frames, height / scale,
                                                         width / scale, dtype, how, backend)));
  };
  PipelineOptions tiled = options;
  tiled.vae_tiling = true;
  return {.text_encoding = bytes(6 * text * configs.text_encoder.d_ff * element),
          .denoising = bytes(experts * kept + step),
          .decoding = decoding(options),
          .tiled_decoding = decoding(tiled)};
}

/// Where the weights of all components go on this backend.
MemoryPlan plan_wan_memory(const WanConfigs& configs, const WanCheckpoints& checkpoints,
                           const GenerationDefaults& defaults, DType dtype,
                           const ops::Backend& backend, const PipelineOptions& options) {
  const auto bytes = [&](const char* name, const nn::TensorTable& table,
                         const quant::WeightSource& source, DType stored) {
    return component_bytes(name, table, source, stored, weight_policy(options, name, kTextEncoder));
  };
  const DType decoded = vae_dtype(options.vae, dtype);
  const quant::WeightSource& text_encoder = *checkpoints.text_encoder;
  std::vector<PlannedComponent> components = {
      {.bytes = bytes(kTextEncoder, models::t5_encoder_table(configs.text_encoder, text_encoder),
                      text_encoder, dtype),
       .stage = Stage::kTextEncoding}};
  int turn = 0;
  for (const ExpertSource& expert : experts_of(configs, checkpoints)) {
    components.push_back(
        {.bytes = bytes(expert.name, models::wan_table(*expert.config), *expert.source, dtype),
         .stage = Stage::kDenoising,
         .turn = turn++,
         .denoiser = true,
         .every_step = models::kWanBlocks});
  }
  components.push_back(
      {.bytes = bytes("vae", models::wan_vae_table(configs.vae), *checkpoints.vae, decoded),
       .stage = Stage::kDecoding});
  return plan_memory(components, activation_bytes(configs, defaults, dtype, options, backend),
                     backend.available_memory(), options.offload);
}

}  // namespace

WanCheckpoints open_wan_checkpoints(const ModelFolder& folder, const WanConfigs& configs,
                                    const PipelineOptions& options) {
  check_load_format(options);
  if (options.format == LoadFormat::kDummy) return make_wan_dummies(folder, configs, options);
  const auto open = [&folder](const char* name, std::string_view stem,
                              const WeightOverrides& overrides = {}) {
    return open_component_weights(folder.component_folder(name), stem, overrides);
  };
  WanCheckpoints checkpoints{
      .text_encoder = open(kTextEncoder, kTransformersStem),
      .transformer = open(kExperts[0], kDiffusersStem, options.transformer),
      .transformer_2 = {},
      .vae = open("vae", kDiffusersStem),
  };
  if (configs.transformer_2) {
    checkpoints.transformer_2 = open(kExperts[1], kDiffusersStem, options.transformer_2);
  }
  TableChecks checks;
  checks.check(models::t5_encoder_table(configs.text_encoder, *checkpoints.text_encoder),
               *checkpoints.text_encoder);
  for (const ExpertSource& expert : experts_of(configs, checkpoints)) {
    checks.check(models::wan_table(*expert.config), *expert.source);
  }
  checks.check(models::wan_vae_table(configs.vae), *checkpoints.vae);
  checks.finish();
  return checkpoints;
}

WanComponents load_wan_components(const ModelFolder& folder, ops::Backend& backend,
                                  std::optional<DType> wanted_dtype,
                                  const PipelineOptions& options) {
  const WanConfigs configs = load_wan_configs(folder);
  WanCheckpoints checkpoints = open_wan_checkpoints(folder, configs, options);
  const DType dtype = choose_dtype(wanted_dtype.value_or(DType::kBF16), *checkpoints.transformer);
  MemoryPlan plan = plan_wan_memory(configs, checkpoints, planned_defaults(folder, options), dtype,
                                    backend, options);
  ComponentRoots roots(backend, plan);
  const auto root = [&](const char* name, const quant::WeightSource& source, DType computed,
                        ops::ModelTurn turn = {}) {
    return roots.root(name, source, computed, weight_policy(options, name, kTextEncoder), turn);
  };
  auto tokenizer = load_checked_tokenizer(
      folder, options.format,
      {"tokenizer", kTextEncoder, configs.text_encoder.vocab_size, make_byte_t5_tokenizer});
  models::T5Encoder text_encoder(root(kTextEncoder, *checkpoints.text_encoder, dtype),
                                 configs.text_encoder);
  // Of the experts all or none come and go.
  std::unique_ptr<ops::WeightTurns> turns;
  if (plan.of(kExperts[0]).whole) turns = backend.take_turns();
  std::vector<models::WanTransformer> experts;
  for (const ExpertSource& expert : experts_of(configs, checkpoints)) {
    const ops::ModelTurn turn{.turns = turns.get(), .turn = static_cast<int>(experts.size())};
    experts.push_back(make_part(turn, [&] {
      return models::WanTransformer(root(expert.name, *expert.source, dtype, turn), *expert.config);
    }));
  }
  WanComponents components{
      .configs = configs,
      .dtype = dtype,
      .fingerprint = fingerprint(folder, configs, checkpoints),
      .tokenizer = std::move(tokenizer),
      .text_encoder = std::move(text_encoder),
      .experts = std::move(experts),
      .turns = std::move(turns),
      .vae = {root("vae", *checkpoints.vae, vae_dtype(options.vae, dtype)), configs.vae},
      .vae_tiling = options.vae_tiling,
      .picture_encoder = {},
      .attestation = {},
      .memory_plan = {},
  };
  components.attestation = roots.attest(options.strict_precision);
  components.memory_plan = std::move(plan);
  if (configs.picture != PictureInput::kNone) {
    components.picture_encoder = std::make_unique<WanPictureEncoder>(
        std::move(checkpoints.vae), backend, vae_dtype(options.vae, dtype), configs.vae,
        configs.picture, options.vae_tiling);
  }
  return components;
}

}  // namespace dither
