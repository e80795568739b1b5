#pragma once

#include <cstdint>
#include <vector>

#include "ops/types.h"
#include "tensor/tensor.h"

namespace dither::models {

/// Everything in the forward passes of a trajectory that does not depend on the latents, computed
/// once for all N steps: each weight of the modulations is read once instead of N times.
struct FluxConditioning {
  Tensor context;         ///< [B, L_text, D], embedded prompt
  ops::Rope rope;         ///< of the joint sequence [text, image, reference pictures]
  Tensor modulations;     ///< [N, B, M], in the order in which the transformer takes them
  Tensor reference = {};  ///< [B, L_ref, C], packed latents of reference pictures; or absent
  /// [blocks, 2, B, L_ref, H, D]: keys and values of reference pictures that no step changes, the
  /// double blocks' before the single ones'; or absent.
  Tensor reference_keys = {};

  /// One step's modulations, [B, M].
  Tensor at_step(std::int64_t step) const { return modulations.at(step); }
};

/// The tensors that every step reads.
inline std::vector<Tensor*> fixed_tensors(FluxConditioning& conditioning) {
  return {&conditioning.context, &conditioning.rope.cos, &conditioning.rope.sin,
          &conditioning.reference, &conditioning.reference_keys};
}

}  // namespace dither::models
