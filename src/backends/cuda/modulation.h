#pragma once

#include <cstdint>

#include "backends/cuda/kernels/norm.h"
#include "ops/backend.h"
#include "ops/types.h"

namespace dither::cuda {

/// A modulated norm as the kernel takes it, with the tensors that it points into.
struct Modulation {
  NormArgs args;  ///< but for x
  Tensor shift;
  Tensor scale;
};

/// Of rows of `dtype`, `tokens` of them a sample, normalised into `y`. The kernel takes one stride
/// for shifts and scales, which columns of one table of modulations have; others are copied.
Modulation modulation(const ops::ModulatedNorm& norm, DType dtype, std::int64_t tokens,
                      const Tensor& y, ops::Backend& backend);

}  // namespace dither::cuda
