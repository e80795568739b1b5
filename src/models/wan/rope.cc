#include "models/wan/rope.h"

#include <array>
#include <vector>

namespace dither::models {

ops::Rope wan_rope(const WanConfig& config, const VideoGrid& grid, ops::Backend& backend) {
  constexpr double kTheta = 10000;
  const std::int64_t spatial = 2 * (config.attention_head_dim / 6);
  const std::array<std::int64_t, 3> axes_dims = {config.attention_head_dim - 2 * spatial, spatial,
                                                 spatial};
  std::vector<TokenPosition> positions;
  for (std::int64_t t = 0; t < grid.frames; ++t) {
    for (std::int64_t y = 0; y < grid.height; ++y) {
      for (std::int64_t x = 0; x < grid.width; ++x) positions.push_back({t, y, x, 0});
    }
  }
  return rope_tables(positions, axes_dims, kTheta, backend);
}

}  // namespace dither::models
