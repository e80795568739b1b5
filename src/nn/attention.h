#pragma once

#include <cstdint>

#include "ops/types.h"
#include "tensor/tensor.h"

namespace dither::nn {

/// Packed projections as attention operands, without a copy.
/// qkv [B, L, 3 H D], columns [q | k | v] -> three views [B, L, H, D].
ops::AttentionOperands split_heads(const Tensor& qkv, std::int64_t heads);

}  // namespace dither::nn
