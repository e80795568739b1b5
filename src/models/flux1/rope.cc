#include "models/flux1/rope.h"

#include <vector>

namespace dither::models {

ops::Rope flux1_rope(const Flux1Config& config, std::int64_t text_tokens, TokenGrid grid,
                     ops::Backend& backend) {
  constexpr double kTheta = 10000.0;
  std::vector<TokenPosition> positions(static_cast<std::size_t>(text_tokens));
  for (std::int64_t i = 0; i < grid.tokens(); ++i) {
    positions.push_back({0, i / grid.cols, i % grid.cols, 0});
  }
  return rope_tables(positions, config.axes_dims_rope, kTheta, backend);
}

}  // namespace dither::models
