#pragma once

#include <cmath>
#include <numbers>

#include "ops/types.h"

namespace dither::cpu {

/// The activations of ops::Activation, as written there.
inline double activation(ops::Activation kind, double x) {
  switch (kind) {
    case ops::Activation::kNone:
      break;
    case ops::Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case ops::Activation::kQuickGelu:
      return x / (1.0 + std::exp(-1.702 * x));
    case ops::Activation::kGeluTanh: {
      const double inner = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return 0.5 * x * (1.0 + std::tanh(inner));
    }
  }
  return x;
}

}  // namespace dither::cpu
