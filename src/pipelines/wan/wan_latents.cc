#include "pipelines/wan/wan_latents.h"

#include "ops/ops.h"

namespace dither {

Tensor pack_video(const Tensor& latents, const models::VideoGrid& grid) {
  const auto [frames, height, width] = grid;
  const std::int64_t channels = latents.dim(1);
  const Tensor patches = latents.reshape({channels, frames, height, 2, width, 2});
  return ops::contiguous(patches.permute({1, 2, 4, 3, 5, 0}))
      .reshape({1, grid.tokens(), 4 * channels});
}

Tensor unpack_video(const Tensor& tokens, const models::VideoGrid& grid) {
  const auto [frames, height, width] = grid;
  const std::int64_t channels = tokens.dim(2) / 4;
  const Tensor patches = tokens.reshape({frames, height, width, 2, 2, channels});
  return ops::contiguous(patches.permute({0, 1, 3, 2, 4, 5}))
      .reshape({1, frames, 2 * height, 2 * width, channels});
}

}  // namespace dither
