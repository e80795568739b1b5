#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "ops/types.h"

namespace dither::ops {

/// Shards that are multiplied as one [N, K] weight, and the scales of that product:
///   y[n] = scales[n] * sum_k q(x)[k] * weight[n, k] + bias[n],
/// where q(x) is x, or its E4M3 codes when there is an `input_scale` (static per-tensor W8A8).
/// Weights that are codes without an input_scale stay codes (weight-only).
struct LinearGroup {
  std::int64_t n = 0;
  std::int64_t k = 0;
  /// All weights are E4M3 codes; else all have the activations' dtype.
  bool codes = false;
  /// Activations are E4M3 codes too; absent: they have their own dtype.
  std::optional<float> input_scale;
  /// [N] weight_scale of each row's shard, times input_scale (a float32 product) or the row's power
  /// of two; empty: all 1.
  std::vector<float> scales;
};

/// Checks shards that are to be executed together. Throws kInvalidArgument, naming the shards, when
/// shapes contradict each other, when some are E4M3 (or E4M3 with an input_scale) and others are
/// not, when their input_scales differ, when E4M3 codes to be multiplied lack a weight_scale, when
/// a scale (or the reciprocal of an input_scale) is not a positive finite number, or when
/// row_exponents are not one per row of a weight-only shard.
LinearGroup group_shards(std::span<const LinearShard> shards);

/// One record per shard of a group whose weights lie in memory as `resident` and whose operands are
/// of `product` (kF8E4M3 in W8A8, whatever the registers hold).
std::vector<LinearPrecision> precision_of(std::span<const LinearShard> shards,
                                          const LinearGroup& group, DType resident, DType product,
                                          std::string_view kernel);

}  // namespace dither::ops
