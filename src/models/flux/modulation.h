#pragma once

#include <cstdint>
#include <utility>

#include "nn/layers.h"
#include "ops/ops.h"

namespace dither::models {

/// AdaLN-Zero vectors of one layer (Peebles & Xie 2023), each [B, D]. They depend on the step
/// alone: a transformer makes those of all steps before the first.
struct Modulation {
  Tensor shift;
  Tensor scale;
  Tensor gate;
};

/// Of every LayerNorm and of the query and key norms.
inline constexpr float kFluxNormEps = 1e-6F;

/// The `index`-th shift, scale and gate of a step's vectors [B, 3 k D].
Modulation modulation_at(const Tensor& vectors, std::int64_t index, std::int64_t width);

/// (1 + scale) LN(x) + shift, in the form in which `reader` takes it.
ops::ModulatedNorm norm_for(const nn::Linear& reader, const Modulation& m);

/// A residual stream with the norm that its next reader wants.
ops::NormedStream normed(Tensor x, const ops::ModulatedNorm& norm);

/// Hands out the columns of one step's modulations [B, M] in their order.
class ModulationColumns {
 public:
  explicit ModulationColumns(Tensor modulations) : modulations_(std::move(modulations)) {}

  Tensor next(std::int64_t width) {
    begin_ += width;
    return modulations_.slice(-1, begin_ - width, begin_);
  }

 private:
  Tensor modulations_;
  std::int64_t begin_ = 0;
};

}  // namespace dither::models
