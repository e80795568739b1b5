#pragma once

#include <cstdint>
#include <span>

#include "ops/backend.h"

namespace dither::models {

/// What the rotary embedding of a language model is made of.
struct HalfRotaryShape {
  std::int64_t heads = 1;
  std::int64_t head_dim = 2;
  double theta = 10000;
};

/// Rotary embedding with halves for pairs (GPT-NeoX; transformers' rotate_half): channels i and
/// i + D/2 of a head turn by position * theta^(-2i / D),
///   x' = x cos + [-x_2 | x_1] sin,  x = [x_1 | x_2].
/// Angles are float32; cosines and sines are rounded to the dtype, as in the reference.
class HalfRotary {
 public:
  /// One row per position.
  HalfRotary(std::span<const std::int64_t> positions, const HalfRotaryShape& shape, DType dtype,
             ops::Backend& backend);

  /// x [1, R, H, D] with R positions and at most shape.heads heads, any strides with unit stride in
  /// D -> [1, R, H, D].
  Tensor operator()(const Tensor& x) const;

 private:
  Tensor cos_;  ///< [1, R, heads, D]
  Tensor sin_;  ///< the same, negative in the first half
};

}  // namespace dither::models
