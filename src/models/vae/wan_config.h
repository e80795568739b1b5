#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "models/vae/tiles.h"
#include "nn/tensor_table.h"

namespace dither::models {

/// diffusers' AutoencoderKLWan; members are config.json's keys, defaults are Wan2.1's. Wan2.2's
/// TI2V-5B has another one, with is_residual.
struct WanVaeConfig {
  std::int64_t base_dim = 96;
  std::optional<std::int64_t> decoder_base_dim = std::nullopt;  ///< absent: base_dim
  std::int64_t z_dim = 16;
  std::vector<std::int64_t> dim_mult = {1, 2, 4, 4};
  std::int64_t num_res_blocks = 2;
  std::vector<double> attn_scales = {};
  std::vector<bool> temperal_downsample = {false, true, true};  ///< the checkpoints' spelling
  std::vector<double> latents_mean = {-0.7571, -0.7089, -0.9113, 0.1075,  -0.1745, 0.9653,
                                      -0.1517, 1.5508,  0.4134,  -0.0715, 0.5517,  -0.3632,
                                      -0.1922, -0.9497, 0.2503,  -0.2921};
  std::vector<double> latents_std = {2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708,
                                     2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579,
                                     1.6382, 1.1253, 2.8251, 1.9160};
  bool is_residual = false;      ///< shortcuts around whole blocks
  std::int64_t in_channels = 3;  ///< of a patch, as is out_channels
  std::int64_t out_channels = 3;
  std::int64_t patch_size = 1;  ///< pixels of a patch in each direction; null in the file: 1
  std::int64_t scale_factor_temporal = 4;
  std::int64_t scale_factor_spatial = 8;

  /// Channels of the encoder's level i, after `base_dim` of its first convolution.
  std::int64_t encoder_channels(std::size_t level) const { return base_dim * dim_mult[level]; }
  /// Of the decoder's up block i; the first reads as many.
  std::int64_t decoder_channels(std::size_t block) const {
    return decoder_base_dim.value_or(base_dim) * dim_mult[dim_mult.size() - 1 - block];
  }
  /// Whether the resampling behind the encoder's level i, or the decoder's up block i, works in
  /// time too. Both have one resampling less than they have levels.
  bool downsamples_time(std::size_t level) const { return temperal_downsample[level]; }
  bool upsamples_time(std::size_t block) const {
    return temperal_downsample[temperal_downsample.size() - 1 - block];
  }
  std::size_t levels() const { return dim_mult.size(); }
  /// Color channels of a picture.
  std::int64_t image_channels() const { return out_channels / (patch_size * patch_size); }
  /// Latent frames of a video of `frames` frames, which are 1 more than a multiple of
  /// scale_factor_temporal.
  std::int64_t latent_frames(std::int64_t frames) const {
    return (frames - 1) / scale_factor_temporal + 1;
  }

  /// Squares of 256 pixels, 192 apart, in latents. Source: diffusers' AutoencoderKLWan, its
  /// defaults.
  VaeTiles tiles() const { return {256 / scale_factor_spatial, 192 / scale_factor_spatial}; }
  /// Of what is encoded, in pixels: as many patches.
  VaeTiles encoded_tiles() const { return {256 * patch_size, 192 * patch_size}; }

  /// Throws kDataLoss (impossible values) and kUnsupported, naming the key.
  void validate() const;
};

/// Every tensor of encoder and decoder, whose names start with "encoder." and "quant_conv", and
/// "decoder." and "post_quant_conv".
nn::TensorTable wan_vae_table(const WanVaeConfig& config);

}  // namespace dither::models
