#include "pipelines/component_loading.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "pipelines/fingerprint.h"
#include "tokenizers/load_tokenizer.h"

namespace dither {

template <typename Check>
void TableChecks::collect(const Check& check) {
  try {
    check();
  } catch (const Error& error) {
    failures_.emplace_back(error.what());
  }
}

void TableChecks::check(const nn::TensorTable& table, const quant::WeightSource& source) {
  collect([&] { table.check(source); });
  collect([&] { source.check_linears(table.linears()); });
}

void TableChecks::finish() const {
  if (failures_.empty()) return;
  throw Error(ErrorCode::kDataLoss, fmt::format("{}", fmt::join(failures_, "; ")));
}

void refuse_foreign(const TensorSource& transformer, const ForeignTransformer& foreign) {
  if (transformer.find(foreign.marker) == nullptr) return;
  const TensorInfo* embedder = transformer.find("x_embedder.weight");
  throw Error(
      ErrorCode::kDataLoss,
      fmt::format(
          "{}: a transformer of {}, this is a model of {}: it has {}, and x_embedder.weight "
          "is {}, expected {}",
          transformer.description(), foreign.family, foreign.own_family, foreign.marker,
          embedder != nullptr ? to_string(embedder->shape) : "missing",
          to_string(foreign.x_embedder)));
}

DType native_dtype(const TensorSource& transformer) {
  const TensorInfo* info = transformer.find("x_embedder.weight");
  return info != nullptr && info->dtype == DType::kBF16 ? DType::kBF16 : DType::kF32;
}

DType choose_dtype(std::optional<DType> wanted, const TensorSource& transformer) {
  const DType dtype = wanted.value_or(native_dtype(transformer));
  if (dtype != DType::kF32 && dtype != DType::kBF16) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("dtype {}: this model runs in F32 or BF16", dtype_name(dtype)));
  }
  return dtype;
}

DType wider(DType a, DType b) { return a == DType::kF32 ? a : b; }

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

std::string model_fingerprint(const ModelFolder& folder, std::span<const ComponentSource> sources,
                              std::span<const char* const> tokenizers) {
  Fingerprint print;
  print.add_file(folder.component_folder("scheduler") / "scheduler_config.json");
  for (const auto& [name, source] : sources) {
    print.add_file(folder.component_folder(name) / "config.json");
  }
  for (const char* name : tokenizers) {
    if (const auto found = folder.find_component_folder(name)) print.add_folder(*found);
  }
  for (const auto& [name, source] : sources) {
    const auto stored = source->stored_sources();
    for (const TensorSource* tensors : stored) print.add_tensors(*tensors);
    if (stored.empty()) print.add(source->declared_by());
  }
  return print.hex();
}

quant::WeightPolicy weight_policy(const PipelineOptions& options, std::string_view component,
                                  std::string_view large_text_encoder) {
  quant::WeightPolicy policy = options.policy;
  if (options.fp8_text_encoder && component == large_text_encoder) {
    policy.keep_fp8 = true;  // of any kind
    policy.plain_as_fp8 = true;
  }
  return policy;
}

GenerationDefaults planned_defaults(const ModelFolder& folder, const PipelineOptions& options) {
  constexpr int kMaxPlanned = 1 << 14;  // pixels a side, frames: no product of them overflows
  GenerationDefaults defaults = folder.defaults();
  const auto replace = [](std::optional<int>& value, const std::optional<int>& known) {
    if (known && *known > 0 && *known <= kMaxPlanned) value = known;
  };
  replace(defaults.width, options.planned.width);
  replace(defaults.height, options.planned.height);
  replace(defaults.num_frames, options.planned.num_frames);
  return defaults;
}

ActivationBytes flow_activation_bytes(const FlowSizes& sizes, const GenerationDefaults& defaults,
                                      DType dtype, DType vae_dtype) {
  constexpr std::int64_t kDefaultExtent = 1024;
  constexpr std::int64_t kLibraries = std::int64_t{256} << 20U;  // their scratch memory
  // Of a residual block: what comes in, its norm, and half as wide what comes out.
  constexpr std::int64_t kLiveImages = 3;
  const std::int64_t element = dtype_bits(dtype) / 8;
  const std::int64_t width = defaults.width.value_or(kDefaultExtent);
  const std::int64_t height = defaults.height.value_or(kDefaultExtent);
  const std::int64_t pixels = width * height;
  std::int64_t referenced = 0;
  std::int64_t encoded = 0;  // at once, which takes about what decoding does
  for (const ImageSize& reference : sizes.references) {
    const std::int64_t size = std::int64_t{reference.width} * reference.height;
    referenced += size;
    encoded = std::max(encoded, size);
  }
  const std::int64_t denoised = sizes.kept_rows == 0 ? pixels + referenced : pixels;
  const std::int64_t tokens = denoised / (sizes.patch * sizes.patch) +
                              defaults.max_sequence_length.value_or(sizes.default_text_tokens);
  const std::int64_t kept =
      sizes.kept_rows * (referenced / (sizes.patch * sizes.patch)) * sizes.width * element;
  // A step has them twice, as it runs and as it is recorded; the recording keeps its own.
  const std::int64_t step = sizes.row_widths * tokens * sizes.width * element;
  const auto bytes = [&](std::int64_t more) {
    return static_cast<std::size_t>(kLibraries + step + kept + more);
  };
  const auto decoding = [&](std::int64_t at_once) {
    return bytes(kLiveImages * at_once * sizes.vae_channels * dtype_bits(vae_dtype) / 8);
  };
  // What joins tiles is little beside what decoding one takes.
  const std::int64_t tile = std::min(width, sizes.vae_tile) * std::min(height, sizes.vae_tile);
  const std::size_t tiled = decoding(std::max(tile, encoded));
  const std::size_t whole = decoding(std::max(pixels, encoded));
  return {.text_encoding = bytes(sizes.text_bytes),
          .denoising = bytes(step),
          .decoding = sizes.vae_tiling ? tiled : whole,
          .tiled_decoding = tiled};
}

void check_overridden_components(const ModelFolder& folder, const PipelineOptions& options) {
  const auto check = [&](bool given, std::string_view option) {
    if (!given || folder.has("transformer_2")) return;
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: {}: {} has no component 'transformer_2'", option,
                            folder.path().string(), folder.index().class_name));
  };
  check(options.transformer_2.weights.has_value(), "--transformer-2-weights-path");
  check(options.transformer_2.modelopt_backbone.has_value(), "--modelopt-backbone-2");
  check(options.dummy_quantization_2.has_value(), "--dummy-quantization-2");
}

nn::WeightScope ComponentRoots::root(std::string component, const quant::WeightSource& source,
                                     DType dtype, quant::WeightPolicy policy, ops::ModelTurn turn) {
  const nn::StreamedLayers& streamed = plan_.of(component).streamed;
  Entry& entry = entries_.emplace_back(Entry{std::move(component), &source, {}});
  return {source, backend_, dtype, &entry.precision, policy, streamed, entry.component, turn};
}

std::vector<ComponentAttestation> ComponentRoots::attest(bool strict) const {
  std::vector<ComponentAttestation> attestation;
  for (const Entry& entry : entries_) {
    attestation.push_back(dither::attest(entry.component, std::string(entry.source->declared_by()),
                                         entry.precision, *entry.source));
    if (strict) require_declared_precision(attestation.back());
  }
  return attestation;
}

}  // namespace dither
