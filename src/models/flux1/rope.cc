#include "models/flux1/rope.h"

#include <array>
#include <cmath>

namespace dither::models {
namespace {

constexpr double kTheta = 10000.0;

using Position = std::array<std::int64_t, 3>;

/// Writes one token's row of both tables.
void write_row(const Flux1Config& config, const Position& position, float* cos, float* sin) {
  for (std::size_t axis = 0; axis < position.size(); ++axis) {
    const std::int64_t dim = config.axes_dims_rope[axis];
    for (std::int64_t k = 0; k < dim / 2; ++k) {
      const double frequency =
          1.0 / std::pow(kTheta, static_cast<double>(2 * k) / static_cast<double>(dim));
      const double angle = static_cast<double>(position[axis]) * frequency;
      *cos++ = static_cast<float>(std::cos(angle));
      *sin++ = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace

ops::Rope flux1_rope(const Flux1Config& config, std::int64_t text_tokens, TokenGrid grid,
                     ops::Backend& backend) {
  const std::int64_t pairs = config.attention_head_dim / 2;
  const std::int64_t tokens = text_tokens + grid.tokens();
  const Tensor cos = Tensor::host({tokens, pairs}, DType::kF32);
  const Tensor sin = Tensor::host({tokens, pairs}, DType::kF32);
  for (std::int64_t i = 0; i < tokens; ++i) {
    const std::int64_t image_token = i - text_tokens;
    const Position position = image_token < 0
                                  ? Position{}
                                  : Position{0, image_token / grid.cols, image_token % grid.cols};
    write_row(config, position, cos.data<float>() + i * pairs, sin.data<float>() + i * pairs);
  }
  return {backend.upload(cos, DType::kF32), backend.upload(sin, DType::kF32)};
}

}  // namespace dither::models
