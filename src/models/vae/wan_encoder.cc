#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "models/vae/wan_autoencoder.h"
#include "ops/region.h"

namespace dither::models {

WanVaeEncoder::WanVaeEncoder(const nn::WeightScope& scope, const WanVaeConfig& config)
    : config_(config),
      dtype_(scope.dtype()),
      statistics_(scope.backend(), config),
      conv_in_(scope / "encoder.conv_in"),
      mid_block_(scope / "encoder.mid_block"),
      norm_out_(scope / "encoder.norm_out", ops::Activation::kSilu),
      conv_out_(scope / "encoder.conv_out"),
      quant_conv_(scope / "quant_conv") {
  const nn::WeightScope blocks = scope / "encoder.down_blocks";
  int flat = 0;  // Wan2.1 numbers the layers of all levels
  for (std::size_t i = 0; i < config.levels(); ++i) {
    const nn::WeightScope block = blocks / static_cast<int>(i);
    DownBlock& down = down_blocks_.emplace_back();
    for (int j = 0; j < config.num_res_blocks; ++j) {
      down.resnets.emplace_back(config.is_residual ? block / "resnets" / j : blocks / flat++);
    }
    if (config.is_residual) down.channels = config.encoder_channels(i);
    if (i + 1 == config.levels()) continue;
    down.downsampler.emplace(config.is_residual ? block / "downsampler" : blocks / flat++);
    down.space_factor = 2;
    if (config.downsamples_time(i)) down.time_factor = 2;
  }
}

Tensor WanVaeEncoder::down(const DownBlock& block, Tensor x, CausalHistory& history) const {
  Tensor shortcut;
  if (block.channels > 0) {
    shortcut = mean_channels(x, block.channels, block.time_factor, block.space_factor,
                             history.first_chunk());
  }
  for (const WanResnet& resnet : block.resnets) x = resnet(std::move(x), history);
  if (block.downsampler) return (*block.downsampler)(x, history, shortcut);
  return shortcut.defined() ? ops::add(x, shortcut) : x;
}

Tensor WanVaeEncoder::encode(const Tensor& frames, CausalHistory& history) const {
  ops::Backend& backend = ops::backend_of(frames);
  Tensor x = conv_in_(patchify(frames, config_.patch_size), history);
  for (std::size_t i = 0; i < down_blocks_.size(); ++i) {
    const ops::Region region(backend, fmt::format("encoder.down_blocks.{}", i));
    x = down(down_blocks_[i], std::move(x), history);
  }
  const ops::Region region(backend, "encoder.mid_block");
  x = conv_out_(mid_block_(std::move(x), history), norm_out_, history);
  return ops::contiguous(quant_conv_(x).slice(-1, 0, config_.z_dim));  // the rest: log variance
}

Tensor WanVaeEncoder::operator()(std::int64_t count, const Frames& frames,
                                 std::int64_t chunk_frames) const {
  const std::int64_t per_latent = config_.scale_factor_temporal;
  if (count < 1 || (count - 1) % per_latent != 0 || chunk_frames < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("Wan VAE encoder: {} frames in chunks of {} latent frames, expected 1 "
                            "more than a multiple of {} in chunks of at least 1",
                            count, chunk_frames, per_latent));
  }
  CausalHistory history;
  std::vector<Tensor> means;
  for (std::int64_t begin = 0; begin < count;) {
    const std::int64_t end = begin == 0 ? 1 : std::min(begin + chunk_frames * per_latent, count);
    const Tensor chunk = frames(begin, end);
    const std::int64_t pixels = config_.scale_factor_spatial;
    const bool fits = chunk.rank() == 5 && chunk.dim(0) == 1 && chunk.dim(1) == end - begin &&
                      chunk.dim(2) % pixels == 0 && chunk.dim(3) % pixels == 0 &&
                      chunk.dim(4) == config_.image_channels();
    if (!fits) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("Wan VAE encoder: frames {} to {} are {}, expected [1, {}, H, W, {}] "
                      "with H and W multiples of {}",
                      begin, end, to_string(chunk), end - begin, config_.image_channels(), pixels));
    }
    means.push_back(encode(ops::cast(ops::contiguous(chunk), dtype_), history));
    history.next_chunk();
    begin = end;
  }
  return statistics_.normalize(ops::cast(ops::concat(means, 1), DType::kF32));
}

Tensor WanVaeEncoder::in_tiles(std::int64_t count, const Frames& frames,
                               const VaeTiles& tiles) const {
  const Tensor first = frames(0, 1);
  const TileScale scale{.down = config_.scale_factor_spatial};
  Tensor latents;
  join_tiles(
      first.dim(2), first.dim(3), tiles, scale,
      [&](const TileRect& rect) {
        return (*this)(count, [&](std::int64_t begin, std::int64_t end) {
          return rect.of(frames(begin, end));
        });
      },
      [&](const Tensor& tile, std::int64_t top, std::int64_t left) {
        if (!latents.defined()) {
          latents = ops::empty_like(
              tile, {1, tile.dim(1), scale(first.dim(2)), scale(first.dim(3)), tile.dim(4)});
        }
        ops::copy(tile,
                  latents.slice(2, top, top + tile.dim(2)).slice(3, left, left + tile.dim(3)));
      });
  return latents;
}

Tensor WanVaeEncoder::operator()(const Tensor& video, std::int64_t chunk_frames) const {
  if (video.rank() != 5) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("Wan VAE encoder: the video is {}, expected 5 dimensions", to_string(video)));
  }
  return (*this)(
      video.dim(1),
      [&](std::int64_t begin, std::int64_t end) { return video.slice(1, begin, end); },
      chunk_frames);
}

}  // namespace dither::models
