#pragma once

#include <initializer_list>

#include "ops/ops.h"

namespace dither::nn {

/// a * b element by element, given as parts of [a | b] along the last dimension: a gate without an
/// activation. For products that are too rare to be an op of their own.
inline Tensor multiply(std::initializer_list<Tensor> parts) {
  return ops::gated_activation(ops::concat(parts, -1), ops::Activation::kNone);
}

}  // namespace dither::nn
