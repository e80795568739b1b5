#include "pipelines/wan/wan_picture.h"

#include <algorithm>
#include <utility>

#include "media/resize.h"
#include "ops/ops.h"
#include "pipelines/encoder_input.h"
#include "pipelines/wan/wan_latents.h"

namespace dither {

WanPictureEncoder::WanPictureEncoder(std::unique_ptr<quant::WeightSource> weights,
                                     ops::Backend& backend, DType dtype,
                                     models::WanVaeConfig config, PictureInput input, bool tiling)
    : weights_(std::move(weights)),
      backend_(backend),
      dtype_(dtype),
      config_(std::move(config)),
      input_(input),
      tiling_(tiling) {}

const models::WanVaeEncoder& WanPictureEncoder::encoder() {
  if (!encoder_) encoder_.emplace(nn::WeightScope(*weights_, backend_, dtype_), config_);
  return *encoder_;
}

/// A video of `frames` frames that are gray behind the first, 0 in [-1, 1]. -> [1, F, h, w, C] f32.
Tensor WanPictureEncoder::encode(const Image& picture, std::int64_t frames) {
  Tensor first = backend_.upload(to_pixels(picture), dtype_).unflatten(0, 1, 1);  // [1, 1, H, W, 3]
  Tensor gray;
  const auto some = [&](std::int64_t begin, std::int64_t end) {
    if (begin == 0) return first;
    if (!gray.defined() || gray.dim(1) != end - begin) {
      gray = backend_.upload(
          Tensor::host({1, end - begin, first.dim(2), first.dim(3), first.dim(4)}, DType::kF32),
          dtype_);
    }
    return gray;
  };
  const models::VaeTiles tiles = config_.encoded_tiles();
  if (tiling_ && models::exceeds(tiles, first)) return encoder().in_tiles(frames, some, tiles);
  return encoder()(frames, some);
}

/// [1, F, h, w, T] f32.
Tensor WanPictureEncoder::mask(const models::VideoGrid& grid) const {
  const Tensor mask =
      Tensor::host({1, grid.frames, 2 * grid.height, 2 * grid.width, config_.scale_factor_temporal},
                   DType::kF32);
  std::fill_n(mask.data<float>(), mask.elements() / grid.frames, 1.0F);
  return backend_.upload(mask, DType::kF32);
}

Tensor WanPictureEncoder::operator()(const Image& picture, const models::VideoGrid& grid) {
  const auto side = [&](std::int64_t tokens) {
    return static_cast<int>(2 * tokens * config_.scale_factor_spatial);
  };
  const Image resized = resize_lanczos(picture, side(grid.width), side(grid.height));
  if (input_ == PictureInput::kFirstFrame) return pack_frames(encode(resized, 1));
  const std::int64_t frames = (grid.frames - 1) * config_.scale_factor_temporal + 1;
  return pack_frames(ops::concat({mask(grid), encode(resized, frames)}, -1));
}

}  // namespace dither
