#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/model_folder.h"
#include "nn/tensor_table.h"
#include "nn/weight_scope.h"
#include "ops/backend.h"
#include "pipelines/attestation.h"
#include "pipelines/memory_plan.h"
#include "pipelines/pipeline.h"
#include "quant/weight_source.h"
#include "tensor/tensor_source.h"
#include "tokenizers/tokenizer.h"

/// What every family does to load its components.
namespace dither {

/// Collects what the tables of several checkpoints object to, so that a user sees all of it at
/// once.
class TableChecks {
 public:
  void check(const nn::TensorTable& table, const quant::WeightSource& source);
  /// Throws one kDataLoss with everything that was found, or returns.
  void finish() const;

 private:
  template <typename Check>
  void collect(const Check& check);

  std::vector<std::string> failures_;
};

/// How to tell a transformer of another family from one with a defect.
struct ForeignTransformer {
  std::string_view marker;  ///< a tensor that only the other family has
  std::string_view family;  ///< the other one
  std::string_view own_family;
  Shape x_embedder;  ///< of the model's own x_embedder.weight
};

/// Throws kDataLoss saying what differs when the weights are the other family's. The families of
/// FLUX share many names: the list of all that do not fit would hide what is wrong.
void refuse_foreign(const TensorSource& transformer, const ForeignTransformer& foreign);

/// The dtype to compute in when nobody chose one: the transformer's own, kF32 unless that is kBF16.
DType native_dtype(const TensorSource& transformer);
/// `wanted`, or native_dtype(). Throws kUnsupported for a dtype that no backend computes in.
DType choose_dtype(std::optional<DType> wanted, const TensorSource& transformer);
/// kF32 where either is: the dtype in which latents are scaled between a sampler and an autoencoder
/// of another dtype.
DType wider(DType a, DType b);

/// A tokenizer, the encoder that reads its ids, and what stands in for it where weights are made
/// up.
struct TokenizerUse {
  const char* name;
  const char* encoder;
  std::int64_t vocab_size;
  Tokenizer (*stand_in)(std::int64_t vocab_size);
};

/// With LoadFormat::kDummy the stand-in serves where there is no folder. Throws as
/// load_tokenizer(), and kDataLoss when the tokenizer makes ids that its encoder has no row for.
std::unique_ptr<const Tokenizer> load_checked_tokenizer(const ModelFolder& folder,
                                                        LoadFormat format, const TokenizerUse& use);

/// A component and its weights.
using ComponentSource = std::pair<const char*, const quant::WeightSource*>;

/// Of the scheduler, of these components' configs and weights, and of the tokenizers that there
/// are. The order counts.
std::string model_fingerprint(const ModelFolder& folder, std::span<const ComponentSource> sources,
                              std::span<const char* const> tokenizers);

/// How a component's weights lie in memory; `large_text_encoder` is the one that
/// PipelineOptions::fp8_text_encoder is about.
quant::WeightPolicy weight_policy(const PipelineOptions& options, std::string_view component,
                                  std::string_view large_text_encoder);

/// What a family's pictures are made in.
struct FlowSizes {
  std::int64_t width = 0;         ///< of the transformer's streams
  std::int64_t row_widths = 0;    ///< live at once in a block, in multiples of `width`
  std::int64_t patch = 0;         ///< pixels along a token's side
  std::int64_t vae_channels = 0;  ///< of the decoder's images at full size
  std::int64_t vae_tile = 0;      ///< pixels along a side of what is decoded at once in tiles
  bool vae_tiling = false;        ///< it is; else all at once
  std::int64_t text_bytes = 0;    ///< to encode a prompt, beside library scratch
  std::vector<ImageSize> references = {};  ///< as they are encoded
  /// Rows of `width` that are kept for each of their tokens, which no step has then; 0: every step
  /// has their tokens.
  std::int64_t kept_rows = 0;
  int default_text_tokens = 512;
};

/// The model's defaults with what is known of the requests in their place, for the memory plan.
/// What no request may have, which generate() refuses, is left out.
GenerationDefaults planned_defaults(const ModelFolder& folder, const PipelineOptions& options);

/// What a picture of the planned size (1024 x 1024 where nothing names one) takes on the device
/// beside the weights: shares of the widest tensors, fitted to measured peaks of FLUX.1.
/// `vae_dtype`: of the autoencoder's activations, `dtype` of all others.
ActivationBytes flow_activation_bytes(const FlowSizes& sizes, const GenerationDefaults& defaults,
                                      DType dtype, DType vae_dtype);

/// make(), a model; its linear layers become a part of its turn where it has one.
template <typename Make>
auto make_part(const ops::ModelTurn& turn, const Make& make) {
  if (turn.turns == nullptr) return make();
  std::optional<decltype(make())> made;
  turn.turns->add(turn.turn, [&] { made.emplace(make()); });
  return std::move(*made);
}

/// Throws kNotFound, naming the option, when one of `options` is for a component that the pipeline
/// does not have.
void check_overridden_components(const ModelFolder& folder, const PipelineOptions& options);

/// Hands out the root scopes of components and attests to what was bound through them.
class ComponentRoots {
 public:
  /// `plan` has every component.
  ComponentRoots(ops::Backend& backend, const MemoryPlan& plan) : backend_(backend), plan_(plan) {}

  /// `source` outlives this object; `dtype` is that of the component's activations. With a `turn`
  /// its layers are parts of their own (nn/layer_sequence.h).
  nn::WeightScope root(std::string component, const quant::WeightSource& source, DType dtype,
                       quant::WeightPolicy policy, ops::ModelTurn turn = {});
  /// In the order of the calls of root(). With `strict`, throws as require_declared_precision().
  std::vector<ComponentAttestation> attest(bool strict) const;

 private:
  struct Entry {
    std::string component;
    const quant::WeightSource* source;
    std::vector<ops::LinearPrecision> precision;
  };

  ops::Backend& backend_;
  const MemoryPlan& plan_;
  std::deque<Entry> entries_;  ///< scopes point into it
};

}  // namespace dither
