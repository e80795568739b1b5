#pragma once

#include <cstdint>

#include "models/flux/double_stream.h"
#include "models/flux1/config.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"
#include "ops/ops.h"

namespace dither::models {

/// x + gate W2 [attn(q, k, v), gelu(m)],  [q, k, v, m] = W1 ((1 + scale) LN(x) + shift).
/// Source: FLUX.1's SingleStreamBlock (after Dehghani et al. 2023).
class Flux1SingleBlock {
 public:
  Flux1SingleBlock(const nn::WeightScope& scope, const Flux1Config& config);

  /// With which norm it reads its stream.
  ops::ModulatedNorm norm(const Modulation& m) const { return norm_for(to_qkv_, m); }

  /// x [B, L, D], text before image, normalised as norm() says; moved here, it gives its memory
  /// back as soon as it was read. -> the rows of tokens [first, end), [B, end - first, D].
  ops::NormedStream operator()(ops::NormedStream x, const Modulation& m,
                               const ops::ModulatedNorm& next, const JointAttention& attention,
                               std::int64_t first, std::int64_t end) const;

 private:
  std::int64_t heads_;
  nn::Linear to_qkv_;
  nn::Linear proj_mlp_;
  Tensor norm_q_;
  Tensor norm_k_;
  nn::Linear proj_out_;
};

}  // namespace dither::models
