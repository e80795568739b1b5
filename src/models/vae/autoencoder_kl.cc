#include "models/vae/autoencoder_kl.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "base/error.h"
#include "ops/region.h"

namespace dither::models {
namespace {

int groups_of(const AutoencoderKlConfig& config) {
  return static_cast<int>(config.norm_num_groups);
}

}  // namespace

Tensor scale_latents(const Tensor& z, const AutoencoderKlConfig& config) {
  return ops::affine(z, static_cast<float>(config.scaling_factor),
                     static_cast<float>(-config.shift_factor * config.scaling_factor));
}

Tensor unscale_latents(const Tensor& latents, const AutoencoderKlConfig& config) {
  return ops::affine(latents, static_cast<float>(1.0 / config.scaling_factor),
                     static_cast<float>(config.shift_factor));
}

AutoencoderKlDecoder::AutoencoderKlDecoder(const nn::WeightScope& scope,
                                           const AutoencoderKlConfig& config)
    : conv_in_(nn::Conv2d::same(scope / "decoder.conv_in", 3)),
      mid_block_(scope / "decoder.mid_block", groups_of(config)),
      conv_norm_out_(scope / "decoder.conv_norm_out", groups_of(config), kVaeNormEps,
                     ops::Activation::kSilu),
      conv_out_(nn::Conv2d::same(scope / "decoder.conv_out", 3)) {
  if (config.use_post_quant_conv) post_quant_conv_.emplace(scope / "post_quant_conv");
  for (int i = 0; i < static_cast<int>(config.block_out_channels.size()); ++i) {
    const nn::WeightScope block = scope / "decoder.up_blocks" / i;
    UpBlock& up = up_blocks_.emplace_back();
    for (int j = 0; j <= config.layers_per_block; ++j) {
      up.resnets.emplace_back(block / "resnets" / j, groups_of(config));
    }
    const nn::WeightScope upsampler = block / "upsamplers.0.conv";
    if (upsampler.has("weight")) up.upsampler.emplace(nn::Conv2d::upsampled(upsampler, 3));
  }
}

Tensor AutoencoderKlDecoder::operator()(const Tensor& z) const {
  Tensor x = conv_in_(post_quant_conv_ ? (*post_quant_conv_)(z) : z);
  ops::Backend& backend = ops::backend_of(z);
  {
    const ops::Region region(backend, "decoder.mid_block");
    x = mid_block_(std::move(x));
  }
  for (std::size_t i = 0; i < up_blocks_.size(); ++i) {
    const ops::Region region(backend, fmt::format("decoder.up_blocks.{}", i));
    const UpBlock& block = up_blocks_[i];
    for (const VaeResnet& resnet : block.resnets) x = resnet(std::move(x));
    if (block.upsampler) x = (*block.upsampler)(x);
  }
  return conv_out_(conv_norm_out_(x));
}

AutoencoderKlEncoder::AutoencoderKlEncoder(const nn::WeightScope& scope,
                                           const AutoencoderKlConfig& config)
    : latent_channels_(config.latent_channels),
      scale_factor_(config.vae_scale_factor()),
      conv_in_(nn::Conv2d::same(scope / "encoder.conv_in", 3)),
      mid_block_(scope / "encoder.mid_block", groups_of(config)),
      conv_norm_out_(scope / "encoder.conv_norm_out", groups_of(config), kVaeNormEps,
                     ops::Activation::kSilu),
      conv_out_(nn::Conv2d::same(scope / "encoder.conv_out", 3)) {
  if (config.use_quant_conv) quant_conv_.emplace(scope / "quant_conv");
  for (int i = 0; i < static_cast<int>(config.block_out_channels.size()); ++i) {
    const nn::WeightScope block = scope / "encoder.down_blocks" / i;
    DownBlock& down = down_blocks_.emplace_back();
    for (int j = 0; j < config.layers_per_block; ++j) {
      down.resnets.emplace_back(block / "resnets" / j, groups_of(config));
    }
    const nn::WeightScope downsampler = block / "downsamplers.0.conv";
    if (downsampler.has("weight")) {
      down.downsampler.emplace(downsampler, 2, std::array{0, 0, 1, 1});
    }
  }
}

Tensor AutoencoderKlEncoder::operator()(const Tensor& pixels) const {
  if (pixels.dim(1) % scale_factor_ != 0 || pixels.dim(2) % scale_factor_ != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("VAE encoder: an image of {} x {} is not a multiple of {}",
                            pixels.dim(2), pixels.dim(1), scale_factor_));
  }
  Tensor x = conv_in_(pixels);
  for (const DownBlock& block : down_blocks_) {
    for (const VaeResnet& resnet : block.resnets) x = resnet(std::move(x));
    if (block.downsampler) x = (*block.downsampler)(x);
  }
  x = conv_out_(conv_norm_out_(mid_block_(std::move(x))));
  if (quant_conv_) x = (*quant_conv_)(x);
  return ops::contiguous(x.slice(-1, 0, latent_channels_));  // the rest is the log variance
}

}  // namespace dither::models
