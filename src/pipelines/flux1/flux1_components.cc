#include "pipelines/flux1/flux1_components.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "io/component_weights.h"
#include "io/dummy_weights.h"
#include "pipelines/dummy_source.h"
#include "pipelines/fingerprint.h"
#include "tokenizers/byte_tokenizer.h"
#include "tokenizers/load_tokenizer.h"

namespace dither {
namespace {

/// Collects what the tables of several checkpoints object to, so that a user sees all of it at
/// once.
class TableChecks {
 public:
  void check(const nn::TensorTable& table, const quant::WeightSource& source) {
    collect([&] { table.check(source); });
    collect([&] { source.check_linears(table.linears()); });
  }

  void finish() const {
    if (failures_.empty()) return;
    throw Error(ErrorCode::kDataLoss, fmt::format("{}", fmt::join(failures_, "; ")));
  }

 private:
  template <typename Check>
  void collect(const Check& check) {
    try {
      check();
    } catch (const Error& error) {
      failures_.emplace_back(error.what());
    }
  }

  std::vector<std::string> failures_;
};

DType choose_dtype(std::optional<DType> wanted, const TensorSource& transformer) {
  const DType dtype = wanted.value_or(native_dtype(transformer));
  if (dtype != DType::kF32 && dtype != DType::kBF16) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("dtype {}: this model runs in F32 or BF16", dtype_name(dtype)));
  }
  return dtype;
}

/// A tokenizer, the encoder that reads its ids, and what stands in for it where weights are made
/// up.
struct TokenizerUse {
  const char* name;
  const char* encoder;
  std::int64_t vocab_size;
  Tokenizer (*stand_in)(std::int64_t vocab_size);
};

std::unique_ptr<const Tokenizer> load_checked_tokenizer(const ModelFolder& folder,
                                                        LoadFormat format,
                                                        const TokenizerUse& use) {
  const auto& [name, encoder, vocab_size, stand_in] = use;
  if (format == LoadFormat::kDummy && !folder.find_component_folder(name)) {
    return std::make_unique<const Tokenizer>(stand_in(vocab_size));
  }
  const auto path = folder.component_folder(name);
  auto tokenizer = load_tokenizer(path);
  if (tokenizer->vocab_size() > vocab_size) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: ids up to {}, but {} has {} rows", path.string(),
                            tokenizer->vocab_size() - 1, encoder, vocab_size));
  }
  return tokenizer;
}

std::string fingerprint(const ModelFolder& folder, const Flux1Checkpoints& checkpoints) {
  Fingerprint print;
  print.add_file(folder.component_folder("scheduler") / "scheduler_config.json");
  for (const char* name : {"text_encoder", "text_encoder_2", "transformer", "vae"}) {
    print.add_file(folder.component_folder(name) / "config.json");
  }
  for (const char* name : {"tokenizer", "tokenizer_2"}) {
    if (const auto found = folder.find_component_folder(name)) print.add_folder(*found);
  }
  for (const auto* source : {&checkpoints.text_encoder, &checkpoints.text_encoder_2,
                             &checkpoints.transformer, &checkpoints.vae}) {
    const auto stored = (*source)->stored_sources();
    for (const TensorSource* tensors : stored) print.add_tensors(*tensors);
    if (stored.empty()) print.add((*source)->declared_by());
  }
  return print.hex();
}

/// In FP8, T5 keeps any kind of FP8 as it is. CLIP stays as stored: it has 3 % of T5's size, and
/// its one vector goes into every modulation of the transformer.
quant::WeightPolicy weight_policy(const WeightOptions& options, std::string_view component) {
  quant::WeightPolicy policy = options.policy;
  if (options.fp8_text_encoder && component == "text_encoder_2") {
    policy.keep_fp8 = true;
    policy.plain_as_fp8 = true;
  }
  return policy;
}

/// Where the weights of all components go on this backend.
MemoryPlan plan_flux1_memory(const Flux1Configs& configs, const Flux1Checkpoints& checkpoints,
                             const GenerationDefaults& defaults, DType dtype,
                             const ops::Backend& backend, const WeightOptions& options) {
  const auto bytes = [&](const char* name, const nn::TensorTable& table,
                         const quant::WeightSource& source) {
    return component_bytes(name, table, source, dtype, weight_policy(options, name));
  };
  const auto& [text_encoder, text_encoder_2, transformer, vae] = checkpoints;
  return plan_memory(
      {{.bytes = bytes("text_encoder", models::clip_text_table(configs.text_encoder, *text_encoder),
                       *text_encoder),
        .stage = Stage::kTextEncoding},
       {.bytes = bytes("text_encoder_2",
                       models::t5_encoder_table(configs.text_encoder_2, *text_encoder_2),
                       *text_encoder_2),
        .stage = Stage::kTextEncoding},
       {.bytes = bytes("transformer", models::flux1_table(configs.transformer), *transformer),
        .stage = Stage::kDenoising,
        .denoiser = true,
        .every_step = models::kFlux1Blocks},
       {.bytes = bytes("vae", models::autoencoder_kl_table(configs.vae, *vae), *vae),
        .stage = Stage::kDecoding}},
      flux1_activation_bytes(configs, defaults, dtype), backend.available_memory(),
      options.offload);
}

/// Weights of the shapes that the configs give, in the spelling that the libraries write today.
Flux1Checkpoints make_flux1_dummies(const ModelFolder& folder, const Flux1Configs& configs,
                                    DummyQuantization quantization) {
  DummyNumbers numbers(0);
  const auto make = [&](const char* name, const nn::TensorTable& table,
                        DummyQuantization stored = DummyQuantization::kNone) {
    return make_dummy_source(
        table, numbers,
        {.description = fmt::format("{} (dummy)", folder.component_folder(name).string()),
         .quantization = stored,
         .class_name = folder.component_class(name).name});
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

}  // namespace

Flux1Checkpoints open_flux1_checkpoints(const ModelFolder& folder, const Flux1Configs& configs,
                                        const WeightOptions& options) {
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

ActivationBytes flux1_activation_bytes(const Flux1Configs& configs,
                                       const GenerationDefaults& defaults, DType dtype) {
  constexpr int kDefaultExtent = 1024;
  constexpr int kDefaultTokens = 512;
  constexpr std::size_t kLibraries = std::size_t{160} << 20U;  // their scratch memory
  const std::size_t element = dtype_bits(dtype) / 8;
  const auto pixels = static_cast<std::size_t>(defaults.width.value_or(kDefaultExtent)) *
                      static_cast<std::size_t>(defaults.height.value_or(kDefaultExtent));
  const auto patch = static_cast<std::size_t>(2 * configs.vae.vae_scale_factor());
  const auto text = static_cast<std::size_t>(defaults.max_sequence_length.value_or(kDefaultTokens));
  const std::size_t tokens = pixels / (patch * patch) + text;
  const auto width = static_cast<std::size_t>(configs.transformer.width());
  const models::T5Config& t5 = configs.text_encoder_2;
  const auto heads = static_cast<std::size_t>(t5.num_heads);
  return {
      // T5's position bias in float32 and the hidden layer of its feed-forward layers.
      .text_encoding = kLibraries + 2 * heads * text * text * sizeof(float) +
                       6 * text * static_cast<std::size_t>(t5.d_ff) * element,
      // A block's rows, once as it runs and once as it is recorded.
      .denoising = kLibraries + 2 * 16 * tokens * width * element,
      // The decoder's widest images at full size.
      .decoding = kLibraries + 6 * pixels *
                                   static_cast<std::size_t>(configs.vae.block_out_channels.at(1)) *
                                   element,
  };
}

DType native_dtype(const TensorSource& transformer) {
  const TensorInfo* info = transformer.find("x_embedder.weight");
  return info != nullptr && info->dtype == DType::kBF16 ? DType::kBF16 : DType::kF32;
}

Flux1Components load_flux1_components(const ModelFolder& folder, ops::Backend& backend,
                                      std::optional<DType> wanted_dtype,
                                      const WeightOptions& options) {
  const Flux1Configs configs = load_flux1_configs(folder);
  const Flux1Checkpoints checkpoints = open_flux1_checkpoints(folder, configs, options);
  const DType dtype = choose_dtype(wanted_dtype, *checkpoints.transformer);
  MemoryPlan plan =
      plan_flux1_memory(configs, checkpoints, folder.defaults(), dtype, backend, options);
  std::map<std::string, std::vector<ops::LinearPrecision>> precision;
  const auto root = [&](const char* name, const quant::WeightSource& source) {
    return nn::WeightScope(source, backend, dtype, &precision[name], weight_policy(options, name),
                           plan.of(name).streamed);
  };
  std::unique_ptr<ops::OffloadedWeights> whole;
  if (plan.of("transformer").whole) whole = backend.offload(ops::Offload::kWhole);
  const auto load_transformer = [&] {
    std::optional<models::Flux1Transformer> transformer;
    const auto load = [&] {
      transformer.emplace(root("transformer", *checkpoints.transformer), configs.transformer);
    };
    whole ? whole->add(load) : load();
    return std::move(*transformer);
  };
  Flux1Components components{
      .configs = configs,
      .dtype = dtype,
      .fingerprint = fingerprint(folder, checkpoints),
      .tokenizer = load_checked_tokenizer(
          folder, options.format,
          {"tokenizer", "text_encoder", configs.text_encoder.vocab_size, make_byte_clip_tokenizer}),
      .tokenizer_2 =
          load_checked_tokenizer(folder, options.format,
                                 {"tokenizer_2", "text_encoder_2",
                                  configs.text_encoder_2.vocab_size, make_byte_t5_tokenizer}),
      .text_encoder = {root("text_encoder", *checkpoints.text_encoder), configs.text_encoder},
      .text_encoder_2 = {root("text_encoder_2", *checkpoints.text_encoder_2),
                         configs.text_encoder_2},
      .transformer = load_transformer(),
      .whole_transformer = std::move(whole),
      .vae = {root("vae", *checkpoints.vae), configs.vae},
      .attestation = {},
      .memory_plan = std::move(plan),
  };
  const auto prove = [&](const char* name, const quant::WeightSource& source) {
    components.attestation.push_back(
        attest(name, std::string(source.declared_by()), precision[name], source));
    if (options.strict_precision) require_declared_precision(components.attestation.back());
  };
  prove("text_encoder", *checkpoints.text_encoder);
  prove("text_encoder_2", *checkpoints.text_encoder_2);
  prove("transformer", *checkpoints.transformer);
  prove("vae", *checkpoints.vae);
  return components;
}

}  // namespace dither
