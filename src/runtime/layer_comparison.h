#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ops/backend.h"
#include "ops/types.h"
#include "pipelines/attestation.h"
#include "report/comparison.h"

namespace dither {

/// What a report calls a layer: its name, behind "transformer_2." of a second transformer.
std::string layer_label(const ops::LinearPrecision& layer);

/// Rows [N] of every layer of the transformers, by label.
using LayerRows = std::map<std::string, std::int64_t, std::less<>>;
LayerRows layer_rows(std::span<const ComponentAttestation> components);

/// Collects the prepared linear layers of the transformers while they run.
class LinearCollector final : public ops::LinearProbe {
 public:
  struct Found {
    const ops::PreparedLinear* linear = nullptr;
    DType activations = DType::kF32;  ///< that it is given
  };

  explicit LinearCollector(LayerRows layers) : layers_(std::move(layers)) {}

  void on_linear(const ops::PreparedLinear& weights, const Tensor& x,
                 const ops::LinearEpilogue& epilogue, const Tensor& y) override;

  /// By the label of their first shard; they live as long as the pipeline that ran.
  const std::map<std::string, Found, std::less<>>& found() const { return found_; }
  /// Memory of all layers found.
  std::uint64_t resident_bytes() const;

 private:
  LayerRows layers_;
  std::map<std::string, Found, std::less<>> found_;
};

/// Holds the output of the candidate's layers against that of the reference's layers of the same
/// label. Both compute x W^T + b with the candidate's own input x, so that an error shows the layer
/// that makes it and not the layers before. Layers that are executed alike are left out.
class LayerComparison final : public ops::LinearProbe {
 public:
  struct Reference {
    ops::Backend& backend;
    const LinearCollector& linears;
  };
  /// `steps`: 0-based, at which to compare. `rows` of the layers.
  LayerComparison(const Reference& reference, LayerRows rows, std::set<int> steps)
      : reference_(reference), rows_(std::move(rows)), steps_(std::move(steps)) {}

  void on_linear(const ops::PreparedLinear& weights, const Tensor& x,
                 const ops::LinearEpilogue& epilogue, const Tensor& y) override;

  /// The denoising step that begins.
  void set_step(int step) { step_ = step; }
  /// The largest relative error first.
  std::vector<LayerError> worst_first() const;

 private:
  void add(std::span<const ops::LinearPrecision> reference,
           std::span<const ops::LinearPrecision> candidate, const Tensor& r, const Tensor& c);

  Reference reference_;
  LayerRows rows_;
  std::set<int> steps_;
  int step_ = 0;
  std::set<std::pair<std::string, int>> seen_;  ///< of two guidance branches the first counts
  std::vector<LayerError> errors_;
};

}  // namespace dither
