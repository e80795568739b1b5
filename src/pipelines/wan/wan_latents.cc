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

Tensor pack_frames(const Tensor& z) {
  const std::int64_t height = z.dim(2) / 2;
  const std::int64_t width = z.dim(3) / 2;
  const std::int64_t channels = z.dim(4);
  const Tensor patches = z.reshape({z.dim(1), height, 2, width, 2, channels});
  return ops::contiguous(patches.permute({0, 1, 3, 2, 4, 5}))
      .reshape({1, z.dim(1) * height * width, 4 * channels});
}

void write_input(const Tensor& latents, const Tensor& condition, PictureInput picture,
                 const Tensor& input) {
  ops::Backend& backend = ops::backend_of(input);
  if (picture != PictureInput::kChannels) {
    backend.copy(latents, input);
    if (picture == PictureInput::kNone) return;
    backend.copy(condition, input.slice(1, 0, condition.dim(1)));
    return;
  }
  const auto neighbours = [](const Tensor& tokens) {
    return tokens.unflatten(-1, 4, tokens.dim(2) / 4);
  };
  const Tensor to = neighbours(input);
  const std::int64_t channels = latents.dim(2) / 4;
  backend.copy(neighbours(latents), to.slice(-1, 0, channels));
  backend.copy(neighbours(condition), to.slice(-1, channels, to.dim(-1)));
}

}  // namespace dither
