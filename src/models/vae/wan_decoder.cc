#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "models/vae/wan_autoencoder.h"
#include "nn/multiply.h"
#include "ops/region.h"

namespace dither::models {
namespace {

/// x * row, row [C] over x [..., C].
Tensor scale_rows(const Tensor& x, const Tensor& row) {
  return nn::multiply({x, ops::add(ops::affine(x, 0, 0), row)});
}

}  // namespace

WanLatentStatistics::WanLatentStatistics(ops::Backend& backend, const WanVaeConfig& config) {
  const auto upload = [&](const auto& value_of) {
    const Tensor row = Tensor::host({config.z_dim}, DType::kF32);
    for (std::size_t i = 0; i < config.latents_mean.size(); ++i) {
      row.data<float>()[i] = static_cast<float>(value_of(i));
    }
    return backend.upload(row, DType::kF32);
  };
  mean_ = upload([&](std::size_t i) { return config.latents_mean[i]; });
  negative_mean_ = upload([&](std::size_t i) { return -config.latents_mean[i]; });
  std_ = upload([&](std::size_t i) { return config.latents_std[i]; });
  inverse_std_ = upload([&](std::size_t i) { return 1 / config.latents_std[i]; });
}

Tensor WanLatentStatistics::denormalize(const Tensor& latents) const {
  return ops::add(scale_rows(latents, std_), mean_);
}

Tensor WanLatentStatistics::normalize(const Tensor& z) const {
  return scale_rows(ops::add(z, negative_mean_), inverse_std_);
}

WanVaeDecoder::WanVaeDecoder(const nn::WeightScope& scope, const WanVaeConfig& config)
    : config_(config),
      dtype_(scope.dtype()),
      statistics_(scope.backend(), config),
      post_quant_conv_(scope / "post_quant_conv"),
      conv_in_(scope / "decoder.conv_in"),
      mid_block_(scope / "decoder.mid_block"),
      norm_out_(scope / "decoder.norm_out", ops::Activation::kSilu),
      conv_out_(scope / "decoder.conv_out") {
  for (std::size_t i = 0; i < config.levels(); ++i) {
    const nn::WeightScope block = scope / "decoder.up_blocks" / static_cast<int>(i);
    UpBlock& up = up_blocks_.emplace_back();
    for (int j = 0; j <= config.num_res_blocks; ++j) up.resnets.emplace_back(block / "resnets" / j);
    if (i + 1 == config.levels()) continue;
    up.upsampler.emplace(block / (config.is_residual ? "upsampler" : "upsamplers.0"));
    if (config.is_residual) up.channels = config.decoder_channels(i);
    if (config.upsamples_time(i)) up.time_factor = 2;
  }
}

Tensor WanVaeDecoder::up(const UpBlock& block, Tensor x, CausalHistory& history) const {
  Tensor shortcut = block.channels != 0 ? x : Tensor();
  for (const WanResnet& resnet : block.resnets) x = resnet(std::move(x), history);
  if (!block.upsampler) return x;
  if (shortcut.defined()) {
    shortcut = spread_channels(shortcut, block.channels, block.time_factor, history.first_chunk());
  }
  return (*block.upsampler)(std::move(x), history, shortcut);
}

Tensor WanVaeDecoder::decode(const Tensor& z, CausalHistory& history) const {
  ops::Backend& backend = ops::backend_of(z);
  Tensor x = conv_in_(z, history);
  {
    const ops::Region region(backend, "decoder.mid_block");
    x = mid_block_(std::move(x), history);
  }
  for (std::size_t i = 0; i < up_blocks_.size(); ++i) {
    const ops::Region region(backend, fmt::format("decoder.up_blocks.{}", i));
    x = up(up_blocks_[i], std::move(x), history);
  }
  const ops::Region region(backend, "decoder.conv_out");
  return conv_out_(std::move(x), norm_out_, history);
}

Tensor WanVaeDecoder::prepare(const Tensor& latents) const {
  if (latents.rank() != 5 || latents.dim(0) != 1 || latents.dim(4) != config_.z_dim) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("Wan VAE decoder: latents are {}, expected [1, F, h, w, {}]",
                            to_string(latents), config_.z_dim));
  }
  const Tensor denormalized = statistics_.denormalize(ops::cast(latents, DType::kF32));
  return post_quant_conv_(ops::cast(denormalized, dtype_));
}

void WanVaeDecoder::decode_chunks(const Tensor& z, std::int64_t chunk_frames,
                                  const OnFrames& on_patches) const {
  CausalHistory history;
  for (std::int64_t begin = 0; begin < z.dim(1);) {
    const std::int64_t end = begin == 0 ? 1 : std::min(begin + chunk_frames, z.dim(1));
    on_patches(decode(z.slice(1, begin, end), history));
    history.next_chunk();
    begin = end;
  }
}

void WanVaeDecoder::operator()(const Tensor& latents, const OnFrames& on_frames,
                               std::int64_t chunk_frames) const {
  if (chunk_frames < 1) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("Wan VAE decoder: chunks of {} frames, expected at least 1", chunk_frames));
  }
  decode_chunks(prepare(latents), chunk_frames,
                [&](const Tensor& patches) { on_frames(unpatchify(patches, config_.patch_size)); });
}

/// Squares are joined while pixels of a patch are channels, as the reference joins them: all pixels
/// of a patch have one weight.
void WanVaeDecoder::in_tiles(const Tensor& latents, const VaeTiles& tiles,
                             const OnTile& on_tile) const {
  const std::int64_t patch = config_.patch_size;
  const auto decode_tile = [&](const Tensor& z) {
    const std::int64_t count = (z.dim(1) - 1) * config_.scale_factor_temporal + 1;
    Tensor frames;
    std::int64_t done = 0;
    decode_chunks(z, kWanChunkFrames, [&](const Tensor& some) {
      if (!frames.defined()) {
        frames = ops::empty_like(some, {1, count, some.dim(2), some.dim(3), some.dim(4)});
      }
      ops::copy(some, frames.slice(1, done, done + some.dim(1)));
      done += some.dim(1);
    });
    return frames;
  };
  decode_tiles(prepare(latents), tiles, config_.scale_factor_spatial / patch, decode_tile,
               [&](const Tensor& tile, std::int64_t top, std::int64_t left) {
                 on_tile(unpatchify(ops::contiguous(tile), patch), top * patch, left * patch);
               });
}

}  // namespace dither::models
