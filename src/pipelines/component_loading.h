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

/// Hands out the root scopes of components and attests to what was bound through them.
class ComponentRoots {
 public:
  ComponentRoots(ops::Backend& backend, DType dtype) : backend_(backend), dtype_(dtype) {}

  /// `source` outlives this object.
  nn::WeightScope root(std::string component, const quant::WeightSource& source);
  /// In the order of the calls of root(). With `strict`, throws as require_declared_precision().
  std::vector<ComponentAttestation> attest(bool strict) const;

 private:
  struct Entry {
    std::string component;
    const quant::WeightSource* source;
    std::vector<ops::LinearPrecision> precision;
  };

  ops::Backend& backend_;
  DType dtype_;
  std::deque<Entry> entries_;  ///< scopes point into it
};

}  // namespace dither
