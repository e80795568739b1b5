#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "convert/calibration.h"
#include "convert/layer_pattern.h"
#include "convert/modelopt_fp8.h"
#include "convert/transformer_folder.h"
#include "io/safetensors_writer.h"
#include "quant/profile.h"

namespace dither::convert {

/// Where a tensor of the result comes from.
enum class Origin : std::uint8_t {
  kExport,    ///< the export's bytes
  kBase,      ///< the base's bytes
  kQuantize,  ///< the export's weight / scale
  kScale,     ///< `scale` itself
};

struct PlannedTensor {
  TensorSpec spec;
  Origin origin = Origin::kExport;
  float scale = 0;
};

struct PlannedShard {
  std::string file;
  std::map<std::string, std::string> metadata;
  std::vector<PlannedTensor> tensors;
};

/// Everything about the result but the bytes of its weights.
struct Fp8Plan {
  std::vector<PlannedShard> shards;
  nlohmann::json config;     ///< config.json
  ModelOptFp8Report report;  ///< complete but for what is clamped
};

/// The inputs of a conversion, opened.
struct Fp8Inputs {
  const TransformerFolder& exported;
  const Calibration& calibration;
  const TransformerFolder* base = nullptr;
  const quant::Profile* profile = nullptr;
  std::vector<LayerPattern> keep_bf16 = {};
};

/// Decides about every tensor, from headers, scales and samples of the weights. Throws kUnsupported
/// and kDataLoss as convert_modelopt_fp8() says, kInvalidArgument when layers go back to 16 bits
/// and there is no base.
Fp8Plan plan_modelopt_fp8(const Fp8Inputs& inputs);

}  // namespace dither::convert
