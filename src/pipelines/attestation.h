#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ops/types.h"
#include "quant/weight_source.h"

namespace dither {

/// How one linear layer was stored and how it is executed.
struct LayerAttestation {
  ops::LinearPrecision executed;  ///< as the backend prepared it
  quant::LayerPlan plan;          ///< as the checkpoint calls for it

  /// Executed in another precision than planned, and nobody said so.
  bool silent() const;
};

/// The proof of a component's precision: every linear layer that its model executes.
struct ComponentAttestation {
  std::string component;    ///< "transformer"
  std::string declared_by;  ///< the file that declares the quantization; empty: not quantized
  std::vector<LayerAttestation> layers;
};

/// `precision`: the backend's records of the model's layers, `source`: what they were loaded from.
ComponentAttestation attest(std::string component, std::string declared_by,
                            std::span<const ops::LinearPrecision> precision,
                            const quant::WeightSource& source);

/// "FP8" for a product of E4M3 codes, else the dtype's name: "BF16".
std::string executed_name(const ops::LinearPrecision& executed);

/// "transformer: 342 FP8, 152 BF16 by profile flux1, 10 BF16 by exclusion, 0 silent". "of FP8
/// weights" follows where codes lie in memory that are not multiplied as such; the weights' error
/// where they were quantized on load.
std::string summarize(const ComponentAttestation& attestation);

/// Throws kUnsupported, listing the layers, when any falls back although the checkpoint does not
/// declare it, or silently.
void require_declared_precision(const ComponentAttestation& attestation);

/// {"component", "declared_by", "summary", "layers": [{"name", "stored", "resident", "executed",
/// "kernel", "weight_scale", "weight_error", "input_scale", "scale_source", "fallback",
/// "fallback_detail", "declared"}]}
nlohmann::ordered_json to_json(const ComponentAttestation& attestation);

}  // namespace dither
