#pragma once

#include <span>

#include "quant/weight_source.h"

namespace dither::quant {

/// As what weights lie in memory, where a checkpoint leaves the choice. Without any of these, what
/// is not multiplied in FP8 becomes numbers of the activations' dtype.
struct WeightPolicy {
  /// Weight-only FP8 stays E4M3 codes: one byte a weight, expanded at every use.
  bool keep_fp8 = false;
  /// NVFP4 becomes E4M3 codes with one scale per tensor, weight_scale_2 * (1 or 3/2) * 2^e. Where
  /// the checkpoint has NVFP4's input_scale = amax / (6 * 448), they are multiplied in FP8 with
  /// amax / 448; else they are weight-only.
  bool nvfp4_as_fp8 = false;
  /// 16-bit and float32 weights become E4M3 codes with an exponent per row, weight-only. Layers
  /// that a quantized checkpoint leaves in 16 bits itself stay as they are.
  bool plain_as_fp8 = false;

  bool operator==(const WeightPolicy&) const = default;
};

/// Turns the weights of one product, as their source gives them, into what the policy asks for:
/// one format for all of them. NVFP4 that stays is without its input_scale, which only products in
/// FP4 would use. Throws kDataLoss, naming the layer, for weights that are not finite.
void apply_policy(const WeightPolicy& policy, std::span<LinearWeight> weights);

}  // namespace dither::quant
