#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint.h"
#include "io/layer_plan.h"
#include "io/modelopt_backbone.h"
#include "quant/config.h"
#include "quant/profile.h"
#include "quant/weight_source.h"

namespace dither {

/// Weights whose linear layers may be quantized, in any layout that Dither reads: ModelOpt's export
/// with scales, its scale-less export with a backbone, SGLang's converted transformers, Comfy's
/// scaled files and NVFP4 in both packings. A plain checkpoint is one without quantized layers.
///
/// Every layer is planned when the object is made; weights are read by linear(). A scale is never
/// guessed: what the tensors and the declaration do not agree about is a problem of that layer.
class QuantizedCheckpoint final : public quant::WeightSource {
 public:
  struct Options {
    std::optional<quant::Config> config = {};  ///< of config.json and the files' metadata
    const quant::Profile* profile = nullptr;   ///< of the model's class
    std::optional<ModelOptBackbone> backbone = {};
    /// NVFP4 is packed as in the files of Black Forest Labs, whose names are no longer to be seen.
    bool foreign_nvfp4 = false;
  };

  /// Throws kDataLoss when tensors of the quantization belong to no weight, contradict the config
  /// or each other, kUnsupported for formats that Dither does not run.
  QuantizedCheckpoint(std::unique_ptr<Checkpoint> stored, Options options);

  std::string_view description() const override { return stored_->description(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(std::string_view name) const override;
  Tensor read(std::string_view name) const override;
  void release(const Tensor& tensor) const override { stored_->release(tensor); }

  std::span<const quant::LayerPlan> layers() const override { return layers_; }
  const quant::LayerPlan* find_layer(std::string_view name) const override;
  quant::LinearWeight linear(std::string_view name) const override;
  void check_linears(std::span<const std::string> names) const override;
  std::string_view declared_by() const override;
  /// The weight files and, where there is one, the backbone.
  std::vector<const TensorSource*> stored_sources() const override;

  /// The tensors as they lie in the files, scales included.
  const Checkpoint& stored() const { return *stored_; }
  const std::optional<quant::Config>& config() const { return options_.config; }
  const std::optional<ModelOptBackbone>& backbone() const { return options_.backbone; }

 private:
  void read_markers();
  void declare(const std::string& layer, quant::Format format, std::string_view where);
  void list_tensors();
  const quant::LayerPlan& usable(std::string_view name) const;
  std::string layer_in_message(std::string_view name) const;
  Tensor expand_nvfp4(const quant::LayerPlan& plan) const;
  Tensor quantize(const quant::LayerPlan& plan) const;
  Tensor dequantize(const quant::LayerPlan& plan) const;

  std::unique_ptr<Checkpoint> stored_;
  Options options_;
  std::vector<quant::LayerPlan> layers_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace dither
