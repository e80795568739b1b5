#include "models/flux/rope.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace dither::models {
namespace {

/// Cosines and sines of one axis, rows of dim / 2 by position: a long video has few positions along
/// each of its axes.
struct AxisTable {
  AxisTable(std::int64_t positions, std::int64_t dim, double theta) : pairs(dim / 2) {
    std::vector<double> frequencies;
    for (std::int64_t k = 0; k < pairs; ++k) {
      frequencies.push_back(1.0 /
                            std::pow(theta, static_cast<double>(2 * k) / static_cast<double>(dim)));
    }
    for (std::int64_t position = 0; position < positions; ++position) {
      for (const double frequency : frequencies) {
        const double angle = static_cast<double>(position) * frequency;
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }

  std::int64_t pairs;
  std::vector<float> cos;
  std::vector<float> sin;
};

std::vector<AxisTable> axis_tables(std::span<const TokenPosition> positions,
                                   std::span<const std::int64_t> axes_dims, double theta) {
  std::vector<AxisTable> tables;
  for (std::size_t axis = 0; axis < axes_dims.size(); ++axis) {
    std::int64_t last = -1;
    for (const TokenPosition& position : positions) last = std::max(last, position[axis]);
    tables.emplace_back(last + 1, axes_dims[axis], theta);
  }
  return tables;
}

}  // namespace

ops::Rope rope_tables(std::span<const TokenPosition> positions,
                      std::span<const std::int64_t> axes_dims, double theta,
                      ops::Backend& backend) {
  const std::int64_t pairs =
      std::accumulate(axes_dims.begin(), axes_dims.end(), std::int64_t{0}) / 2;
  const std::vector<AxisTable> axes = axis_tables(positions, axes_dims, theta);
  const auto tokens = static_cast<std::int64_t>(positions.size());
  const Tensor cos = Tensor::host({tokens, pairs}, DType::kF32);
  const Tensor sin = Tensor::host({tokens, pairs}, DType::kF32);
  std::int64_t at = 0;
  for (const TokenPosition& position : positions) {
    for (std::size_t axis = 0; axis < axes.size(); ++axis) {
      const AxisTable& table = axes[axis];
      const std::int64_t row = position[axis] * table.pairs;
      std::copy_n(table.cos.begin() + row, table.pairs, cos.data<float>() + at);
      std::copy_n(table.sin.begin() + row, table.pairs, sin.data<float>() + at);
      at += table.pairs;
    }
  }
  return {backend.upload(cos, DType::kF32), backend.upload(sin, DType::kF32)};
}

}  // namespace dither::models
