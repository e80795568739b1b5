#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/backend.h"
#include "quant/weight_policy.h"
#include "quant/weight_source.h"
#include "tensor/tensor_source.h"

namespace dither::nn {

/// How many layers of a model's sequences (nn/layer_sequence.h) stream from host memory, by their
/// names; a sequence that is not named is resident.
using StreamedLayers = std::map<std::string, std::int64_t, std::less<>>;

/// A position in a checkpoint's name tree, with everything a layer needs to bind its weights:
/// `scope / "attn" / "to_q"` is where "attn.to_q.weight" lies. Cheap to copy; refers to the source
/// and the backend, which outlive it. Shapes were checked by the model's TensorTable.
class WeightScope {
 public:
  /// `dtype`: of the activations, kF32 or kBF16; weights are converted to it on load.
  WeightScope(const TensorSource& source, ops::Backend& backend, DType dtype)
      : source_(&source), backend_(&backend), dtype_(dtype) {}
  /// Of a checkpoint whose linear layers may be quantized. How each was prepared is appended to
  /// `precision` (not null, outlives the scope).
  /// `streamed`: which layers do not stay on the device; `component`: whose checkpoint it is;
  /// `turn`: when all of it is on the device.
  WeightScope(const quant::WeightSource& source, ops::Backend& backend, DType dtype,
              std::vector<ops::LinearPrecision>* precision, quant::WeightPolicy policy = {},
              StreamedLayers streamed = {}, std::string component = {}, ops::ModelTurn turn = {})
      : source_(&source),
        weights_(&source),
        precision_(precision),
        policy_(policy),
        backend_(&backend),
        dtype_(dtype),
        streamed_(std::make_shared<const StreamedLayers>(std::move(streamed))),
        component_(std::move(component)),
        turn_(turn) {}

  /// The scope one name below; an index for "blocks.0".
  WeightScope operator/(std::string_view name) const;
  WeightScope operator/(int index) const;
  /// The same position for a layer whose activations are of another dtype.
  WeightScope with_dtype(DType dtype) const;

  ops::Backend& backend() const { return *backend_; }
  DType dtype() const { return dtype_; }
  const StreamedLayers& streamed_layers() const { return *streamed_; }
  const ops::ModelTurn& turn() const { return turn_; }
  /// The name of the model that is loaded, empty where nobody said it.
  const std::string& component() const { return component_; }
  /// The full checkpoint name of this position.
  const std::string& name() const { return prefix_; }

  bool has(std::string_view leaf) const;
  /// The tensor in host memory, as stored. Throws kNotFound.
  Tensor host(std::string_view leaf) const;
  /// The tensor on the backend, in dtype().
  Tensor upload(std::string_view leaf) const;
  /// Weight and scales of this position's linear layer, as stored. A convolution whose kernel is
  /// its stride is one too, over channels-last patches: [N, C, k...] becomes [N, k... C].
  quant::LinearWeight linear_weight() const;
  /// As what linear weights lie in memory.
  const quant::WeightPolicy& policy() const { return policy_; }
  /// Notes how a linear layer is executed, where somebody wants to know. `weights`: what its shards
  /// were made of, in their order.
  void record(const ops::PreparedLinear& prepared,
              std::span<const quant::LinearWeight> weights) const;
  /// Tells the source that a host tensor has been packed elsewhere.
  void release(const Tensor& host) const { source_->release(host); }

 private:
  std::string join(std::string_view leaf) const;

  const TensorSource* source_;
  const quant::WeightSource* weights_ = nullptr;  ///< source_, where it can hold quantized layers
  std::vector<ops::LinearPrecision>* precision_ = nullptr;
  quant::WeightPolicy policy_;
  ops::Backend* backend_;
  DType dtype_;
  std::shared_ptr<const StreamedLayers> streamed_ = std::make_shared<const StreamedLayers>();
  std::string component_;
  ops::ModelTurn turn_;
  std::string prefix_;
};

}  // namespace dither::nn
