#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "ops/ops.h"

namespace dither::models {

/// softmax(q k^T / sqrt(head_dim)) v.
Tensor attend(const ops::AttentionOperands& qkv, const ops::Output& out = {},
              const std::optional<ops::FirstCodes>& first_codes = std::nullopt);

/// What a block's attention has to do with beside its streams.
struct JointAttention {
  const ops::Rope& rope;  ///< of all streams' tokens
  ops::AttentionPrecision precision = ops::AttentionPrecision::kActivations;
  /// Keys and values, normalised and rotated, that are seen beside the streams' own: [2, B, L, H,
  /// D] or absent. With them the attention multiplies activations.
  Tensor others = {};
  /// Where the streams' own keys and values are kept in that form, or absent. Then `precision` is
  /// kActivations.
  Tensor kept = {};
};

/// Operands of the attention over the streams, one behind the other.
ops::AttentionOperands project_heads(std::span<const ops::HeadProjection> streams,
                                     std::int64_t heads, const JointAttention& attention);

}  // namespace dither::models
