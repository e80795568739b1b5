#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quant/quantized_tensor.h"
#include "tensor/tensor_source.h"

namespace dither::quant {

/// What becomes of one 2-D weight of a checkpoint, decided from headers and scales alone.
struct LayerPlan {
  std::string name;               ///< without ".weight"
  DType stored = DType::kBF16;    ///< of the weight in the file; kF4E2M1 for packed NVFP4
  Shape shape = {};               ///< [N, K], whatever the packing
  Format format = Format::kNone;  ///< as which it is executed
  /// Of the product: FP8's weight_scale, NVFP4's weight_scale_2.
  std::optional<float> weight_scale = {};
  std::optional<float> input_scale = {};  ///< amax / 448, NVFP4's amax / (6 * 448)
  std::string scale_source = {};  ///< "checkpoint", "backbone transformer.pt"; empty: no scales
  /// What takes a layer of a quantized checkpoint back from its format: "exclusion", "profile
  /// flux1", "weight-only storage"; empty: nothing does.
  std::string fallback = {};
  std::string fallback_detail = {};  ///< "pattern 'proj_out'", "stored as F8_E4M3"
  bool declared = true;              ///< the checkpoint itself says that it falls back
  /// What makes the layer unusable; an error as soon as a model needs it.
  std::string problem = {};
};

/// The weight of a linear layer as a source gives it, then, after apply_policy(), as a
/// backend executes it; see ops::LinearShard.
struct LinearWeight {
  Tensor weight;  ///< [N, K] kF8E4M3 codes or floating point, in host memory
  std::optional<float> weight_scale = {};
  std::optional<float> input_scale = {};        ///< of a source: as in LayerPlan
  std::string name = {};                        ///< without ".weight"
  Format format = Format::kNone;                ///< in which the checkpoint has it
  bool left_16_bit = false;                     ///< by the checkpoint, which is quantized elsewhere
  std::vector<std::int8_t> row_exponents = {};  ///< see ops::LinearShard
  /// Where codes were made on load: |codes * scales - w| / |w|, Euclidean norms.
  std::optional<double> weight_error = {};
};

/// A checkpoint whose linear layers may be quantized. As a TensorSource it shows the logical
/// tensors: one [N, K] weight per layer, its read() gives real numbers, and neither scales nor the
/// packing are to be seen.
class WeightSource : public TensorSource {
 public:
  /// Every 2-D weight, sorted by name.
  virtual std::span<const LayerPlan> layers() const = 0;
  /// Null for a layer without a 2-D weight.
  virtual const LayerPlan* find_layer(std::string_view name) const = 0;
  /// Throws kNotFound (no 2-D weight of that name), kDataLoss (the plan has a problem).
  virtual LinearWeight linear(std::string_view name) const = 0;
  /// One kDataLoss error that lists what is wrong with any of these layers, or nothing. A layer
  /// without a plan is no problem here: the TensorTable speaks of missing tensors.
  virtual void check_linears(std::span<const std::string> names) const = 0;

  /// What declares how the layers are quantized, a file; empty where nothing does.
  virtual std::string_view declared_by() const = 0;
  /// What the weights are made of, as it is stored: for a fingerprint. Empty for made-up weights,
  /// which their declared_by() decides.
  virtual std::vector<const TensorSource*> stored_sources() const = 0;
};

}  // namespace dither::quant
