#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/vae/blocks.h"
#include "models/vae/tiles.h"
#include "nn/layers.h"
#include "nn/tensor_table.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// diffusers' AutoencoderKL; members are config.json's keys, defaults are FLUX.1's.
struct AutoencoderKlConfig {
  std::int64_t in_channels = 3;
  std::int64_t out_channels = 3;
  std::int64_t latent_channels = 16;
  std::vector<std::int64_t> block_out_channels = {128, 256, 512, 512};
  std::vector<std::int64_t> decoder_block_out_channels = {};  ///< empty: block_out_channels
  std::int64_t layers_per_block = 2;
  std::int64_t norm_num_groups = 32;
  std::string act_fn = "silu";
  bool mid_block_add_attention = true;
  bool use_quant_conv = false;
  bool use_post_quant_conv = false;
  double scaling_factor = 0.3611;
  double shift_factor = 0.1159;
  std::int64_t sample_size = 1024;  ///< pixels along a side of what it was trained with

  const std::vector<std::int64_t>& decoder_channels() const {
    return decoder_block_out_channels.empty() ? block_out_channels : decoder_block_out_channels;
  }
  /// Pixels per latent in each direction.
  std::int64_t vae_scale_factor() const {
    return std::int64_t{1} << (block_out_channels.size() - 1);
  }
  /// Squares of sample_size, of which a quarter overlaps. Source: diffusers' AutoencoderKL.
  VaeTiles tiles() const {
    const std::int64_t size = sample_size / vae_scale_factor();
    return {.size = size, .stride = size * 3 / 4};
  }
  /// Throws kDataLoss (impossible values) and kUnsupported, naming the key.
  void validate() const;
};

/// Every tensor of encoder and decoder, in the spelling of this checkpoint: the mid block's
/// attention may carry its old names (query, key, value, proj_attn).
nn::TensorTable autoencoder_kl_table(const AutoencoderKlConfig& config, const TensorSource& source);

/// Diffusion models work on scaled latents, (z - shift_factor) * scaling_factor.
Tensor scale_latents(const Tensor& z, const AutoencoderKlConfig& config);
/// The inverse, latents / scaling_factor + shift_factor: what the decoder takes.
Tensor unscale_latents(const Tensor& latents, const AutoencoderKlConfig& config);

/// The decoder of a KL-regularised autoencoder (Rombach et al. 2022). Images are NHWC throughout.
class AutoencoderKlDecoder {
 public:
  /// `scope`: the checkpoint's root. `config` was validated and the checkpoint checked against
  /// autoencoder_kl_table().
  AutoencoderKlDecoder(const nn::WeightScope& scope, const AutoencoderKlConfig& config);

  /// z [B, h, w, latent_channels], unscaled -> pixels [B, s h, s w, out_channels], about [-1, 1].
  Tensor operator()(const Tensor& z) const;

 private:
  struct UpBlock {
    std::vector<VaeResnet> resnets;
    std::optional<nn::Conv2d> upsampler;  ///< after nearest 2x; absent in the last block
  };

  std::optional<nn::Linear> post_quant_conv_;
  nn::Conv2d conv_in_;
  VaeMidBlock mid_block_;
  std::vector<UpBlock> up_blocks_;
  nn::GroupNorm conv_norm_out_;
  nn::Conv2d conv_out_;
};

/// The encoder of the same autoencoder.
class AutoencoderKlEncoder {
 public:
  /// As AutoencoderKlDecoder's.
  AutoencoderKlEncoder(const nn::WeightScope& scope, const AutoencoderKlConfig& config);

  /// pixels [B, H, W, in_channels] in [-1, 1], H and W multiples of vae_scale_factor() -> mean of
  /// the latent distribution [B, H/s, W/s, latent_channels], unscaled.
  Tensor operator()(const Tensor& pixels) const;

 private:
  struct DownBlock {
    std::vector<VaeResnet> resnets;
    std::optional<nn::Conv2d> downsampler;  ///< absent in the last block
  };

  std::int64_t latent_channels_;
  std::int64_t scale_factor_;
  nn::Conv2d conv_in_;
  std::vector<DownBlock> down_blocks_;
  VaeMidBlock mid_block_;
  nn::GroupNorm conv_norm_out_;
  nn::Conv2d conv_out_;
  std::optional<nn::Linear> quant_conv_;
};

}  // namespace dither::models
