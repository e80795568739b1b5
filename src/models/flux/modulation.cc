#include "models/flux/modulation.h"

namespace dither::models {

Modulation modulation_at(const Tensor& vectors, std::int64_t index, std::int64_t width) {
  const auto chunk = [&](std::int64_t i) {
    return vectors.slice(-1, (3 * index + i) * width, (3 * index + i + 1) * width);
  };
  return {chunk(0), chunk(1), chunk(2)};
}

ops::ModulatedNorm norm_for(const nn::Linear& reader, const Modulation& m) {
  return {.shift = m.shift, .scale = m.scale, .eps = kFluxNormEps, .e4m3_scale = reader.codes()};
}

ops::NormedStream normed(Tensor x, const ops::ModulatedNorm& norm) {
  Tensor normalized = ops::layer_norm_modulate(x, norm);
  return {.x = std::move(x), .normalized = std::move(normalized)};
}

}  // namespace dither::models
