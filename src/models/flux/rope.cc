#include "models/flux/rope.h"

#include <cmath>
#include <numeric>

namespace dither::models {
namespace {

/// Writes one token's row of both tables.
void write_row(const TokenPosition& position, std::span<const std::int64_t> axes_dims, double theta,
               float* cos, float* sin) {
  for (std::size_t axis = 0; axis < axes_dims.size(); ++axis) {
    const std::int64_t dim = axes_dims[axis];
    for (std::int64_t k = 0; k < dim / 2; ++k) {
      const double frequency =
          1.0 / std::pow(theta, static_cast<double>(2 * k) / static_cast<double>(dim));
      const double angle = static_cast<double>(position[axis]) * frequency;
      *cos++ = static_cast<float>(std::cos(angle));
      *sin++ = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace

ops::Rope rope_tables(std::span<const TokenPosition> positions,
                      std::span<const std::int64_t> axes_dims, double theta,
                      ops::Backend& backend) {
  const std::int64_t pairs =
      std::accumulate(axes_dims.begin(), axes_dims.end(), std::int64_t{0}) / 2;
  const auto tokens = static_cast<std::int64_t>(positions.size());
  const Tensor cos = Tensor::host({tokens, pairs}, DType::kF32);
  const Tensor sin = Tensor::host({tokens, pairs}, DType::kF32);
  std::int64_t row = 0;
  for (const TokenPosition& position : positions) {
    write_row(position, axes_dims, theta, cos.data<float>() + row, sin.data<float>() + row);
    row += pairs;
  }
  return {backend.upload(cos, DType::kF32), backend.upload(sin, DType::kF32)};
}

}  // namespace dither::models
