#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "io/modelopt_backbone.h"
#include "quant/config.h"
#include "quant/nvfp4.h"
#include "quant/profile.h"
#include "quant/weight_source.h"
#include "tensor/tensor_source.h"

namespace dither {

/// The tensors that a checkpoint stores for one linear layer, under any of their names; null where
/// there is none.
struct StoredLayer {
  const TensorInfo* weight = nullptr;
  const TensorInfo* weight_scale = nullptr;    ///< also "scale_weight", "weight_quantizer._scale"
  const TensorInfo* weight_scale_2 = nullptr;  ///< NVFP4 only
  const TensorInfo* input_scale = nullptr;     ///< also "scale_input"
  bool comfy = false;                          ///< has a ".comfy_quant"
};

StoredLayer find_stored_layer(const TensorSource& stored, std::string_view name);

/// True for a tensor that belongs to the quantization and not to the model.
bool is_quantization_tensor(std::string_view name);

/// How the codes of an NVFP4 layer lie in the file. ModelOpt packs the even k low and stores scales
/// row by row; files of Black Forest Labs and Comfy (`foreign`) do neither. Scales whose shape is
/// padded can only be tiles. The config's swap_weight_nibbles overrides the order.
struct Nvfp4Packing {
  quant::NibbleOrder nibbles = quant::NibbleOrder::kLowFirst;
  quant::ScaleLayout layout = quant::ScaleLayout::kRowMajor;
};
Nvfp4Packing nvfp4_packing(const StoredLayer& layer, const Shape& shape, bool foreign,
                           const quant::Config& config);

/// Holds what is stored for a layer against what is declared about it.
class LayerPlanner {
 public:
  /// Everything is optional but the tensors; `config`, `profile` and `backbone` may be null and
  /// outlive the planner.
  LayerPlanner(const TensorSource& stored, const quant::Config* config,
               const quant::Profile* profile, const ModelOptBackbone* backbone)
      : stored_(stored), config_(config), profile_(profile), backbone_(backbone) {}

  /// `name`: a layer whose ".weight" has two dimensions. Never throws for what the files hold: see
  /// LayerPlan::problem.
  quant::LayerPlan plan(const std::string& name) const;

 private:
  void plan_plain(const StoredLayer& layer, quant::LayerPlan& plan) const;
  void plan_fp8(const StoredLayer& layer, quant::LayerPlan& plan) const;
  void plan_nvfp4(const StoredLayer& layer, quant::LayerPlan& plan) const;
  void take_from_backbone(quant::LayerPlan& plan) const;
  void exclude(quant::LayerPlan& plan) const;
  quant::Format declared(std::string_view name) const;
  std::string exclusion(std::string_view name) const;
  std::optional<float> scale(const TensorInfo* info, std::string_view what) const;

  const TensorSource& stored_;
  const quant::Config* config_;
  const quant::Profile* profile_;
  const ModelOptBackbone* backbone_;
};

}  // namespace dither
