#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/page_pattern.h"
#include "quant/weight_source.h"

namespace dither {

/// How the linear layers of made-up weights are stored.
enum class DummyQuantization : std::uint8_t {
  kNone,
  kFp8Profile,  ///< E4M3 as in SGLang's checkpoints: ModelOpt's filter and the model's profile
  kFp8Full,     ///< E4M3 wherever ModelOpt's filter quantizes
};

/// "none", "fp8-profile", "fp8-full": the name in options and reports.
std::string_view dummy_quantization_name(DummyQuantization quantization);
/// The inverse of dummy_quantization_name; nothing for an unknown name.
std::optional<DummyQuantization> parse_dummy_quantization(std::string_view name);

/// A tensor to make up.
struct DummyTensor {
  std::string name;
  Shape shape;
  bool linear = false;  ///< the weight of a linear layer: one that may be quantized
};

/// The random numbers of made-up weights, normally distributed, in 96 MiB however large the
/// weights: every tensor is a window onto one block that repeats. Several DummyWeights share one.
class DummyNumbers {
 public:
  explicit DummyNumbers(std::uint64_t seed) : seed_(seed) {}

  std::uint64_t seed() const { return seed_; }
  /// kBF16, standard deviation 0.02. Made at the first call.
  const PagePattern& values();
  /// kF8E4M3 codes, standard deviation 90, so that the range is used. Made at the first call.
  const PagePattern& codes();

 private:
  std::uint64_t seed_;
  std::unique_ptr<const PagePattern> values_;
  std::unique_ptr<const PagePattern> codes_;
};

/// Made-up weights of a model's true shapes, to time it without having it. Linear layers,
/// convolutions and embeddings are normal with standard deviation 0.02, biases too; the scales of
/// norms are 1 + that, so activations stay finite. In FP8 a layer has E4M3 codes of standard
/// deviation 90, weight_scale 0.02 / 90 and an input_scale for activations up to 4. One seed always
/// gives the same numbers.
class DummyWeights final : public quant::WeightSource {
 public:
  struct Options {
    std::string description = {};  ///< what to call these weights in a message
    DummyQuantization quantization = DummyQuantization::kNone;
    std::string class_name = {};  ///< of the model, for ModelOpt's filter and the profile
  };

  /// Throws kUnsupported for a quantization of a class that ModelOpt's filters do not know,
  /// kInvalidArgument when a name is there twice.
  DummyWeights(const std::vector<DummyTensor>& tensors, DummyNumbers& numbers, Options options);

  std::string_view description() const override { return options_.description; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(std::string_view name) const override;
  Tensor read(std::string_view name) const override;
  void release(const Tensor& /*tensor*/) const override {}

  std::span<const quant::LayerPlan> layers() const override { return layers_; }
  const quant::LayerPlan* find_layer(std::string_view name) const override;
  quant::LinearWeight linear(std::string_view name) const override;
  void check_linears(std::span<const std::string> /*names*/) const override {}

  /// "dummy weights, seed 0, fp8-full".
  std::string_view declared_by() const override { return declared_by_; }
  std::vector<const TensorSource*> stored_sources() const override { return {}; }

 private:
  void plan_layers(const std::vector<DummyTensor>& tensors);
  const quant::LayerPlan* quantized(std::string_view tensor) const;
  Tensor view(const std::shared_ptr<Storage>& block, DType dtype, std::string_view name,
              const Shape& shape) const;

  Options options_;
  std::uint64_t seed_;
  std::string declared_by_;
  std::vector<TensorInfo> tensors_;       ///< sorted by name
  std::vector<quant::LayerPlan> layers_;  ///< sorted by the name of the weight
  std::shared_ptr<Storage> values_;       ///< repeated as far as the largest tensor needs it
  std::shared_ptr<Storage> codes_;
};

}  // namespace dither
