#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "models/vae/causal_conv.h"
#include "models/vae/tiles.h"
#include "models/vae/wan_blocks.h"
#include "models/vae/wan_config.h"
#include "models/vae/wan_resample.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// Diffusion models work on latents with mean 0 and deviation 1 per channel, (z - latents_mean) /
/// latents_std.
class WanLatentStatistics {
 public:
  WanLatentStatistics(ops::Backend& backend, const WanVaeConfig& config);

  /// latents * latents_std + latents_mean; any shape [..., z_dim], f32.
  Tensor denormalize(const Tensor& latents) const;
  /// The inverse.
  Tensor normalize(const Tensor& z) const;

 private:
  Tensor mean_;  ///< [z_dim] f32, as the others
  Tensor negative_mean_;
  Tensor std_;
  Tensor inverse_std_;
};

/// How many latent frames the autoencoder works on at once, after the first frame of a video, which
/// it always takes by itself. Memory grows with it, the result does not depend on it.
inline constexpr std::int64_t kWanChunkFrames = 1;

/// The decoder of the causal video autoencoder of Wan2.1 (Wan Team 2025, section 4.1) and, with
/// is_residual, Wan2.2. Videos are NDHWC throughout.
class WanVaeDecoder {
 public:
  /// `scope`: the checkpoint's root. `config` was validated and the checkpoint checked against
  /// wan_vae_table().
  WanVaeDecoder(const nn::WeightScope& scope, const WanVaeConfig& config);

  /// Called with consecutive frames [1, n, H, W, 3], about [-1, 1] and not clamped.
  using OnFrames = std::function<void(const Tensor& frames)>;

  /// latents [1, F, h, w, z_dim] as sampled, f32 or the decoder's dtype -> (F - 1)
  /// scale_factor_temporal + 1 frames of scale_factor_spatial times the extent, chunk by chunk: the
  /// first frame, then as many as `chunk_frames` latent frames make. Memory does not grow with F.
  /// Throws kInvalidArgument (shapes, chunk_frames), and what `on_frames` throws.
  void operator()(const Tensor& latents, const OnFrames& on_frames,
                  std::int64_t chunk_frames = kWanChunkFrames) const;

  /// The same in squares, of which each goes through the whole video before the next
  /// (decode_tiles()): called with all frames of a rectangle, [1, n, H, W, 3]. Memory grows with
  /// neither extent, but for a row's overlaps, and with F by a square's frames. What a square's
  /// neighbours would add to it near its border is missing, so frames differ a little.
  void in_tiles(const Tensor& latents, const VaeTiles& tiles, const OnTile& on_tile) const;

 private:
  struct UpBlock {
    std::vector<WanResnet> resnets;
    std::optional<WanUpsampler> upsampler;  ///< absent in the last block
    std::int64_t channels = 0;              ///< of the shortcut around the block; 0: it has none
    std::int64_t time_factor = 1;           ///< of the shortcut
  };

  Tensor up(const UpBlock& block, Tensor x, CausalHistory& history) const;
  /// Patches, of a chunk or by chunks.
  Tensor decode(const Tensor& z, CausalHistory& history) const;
  void decode_chunks(const Tensor& z, std::int64_t chunk_frames, const OnFrames& on_patches) const;
  /// What the decoder's layers read.
  Tensor prepare(const Tensor& latents) const;

  WanVaeConfig config_;
  DType dtype_;
  WanLatentStatistics statistics_;
  nn::Linear post_quant_conv_;
  CausalConv3d conv_in_;
  WanMidBlock mid_block_;
  std::vector<UpBlock> up_blocks_;
  nn::ChannelNorm norm_out_;
  CausalConv3d conv_out_;
};

/// The encoder of the same autoencoder.
class WanVaeEncoder {
 public:
  /// As WanVaeDecoder's.
  WanVaeEncoder(const nn::WeightScope& scope, const WanVaeConfig& config);

  /// Frames [begin, end) of the video, [1, end - begin, H, W, 3] in [-1, 1], of the encoder's
  /// dtype.
  using Frames = std::function<Tensor(std::int64_t begin, std::int64_t end)>;

  /// A video of `count` frames, 1 more than a multiple of scale_factor_temporal, whose extents are
  /// multiples of scale_factor_spatial, asked for in order and chunk by chunk -> mean of the latent
  /// distribution, normalised: [1, latent_frames(count), h, w, z_dim] f32. Throws kInvalidArgument
  /// (count, shapes, chunk_frames), and what `frames` throws.
  Tensor operator()(std::int64_t count, const Frames& frames,
                    std::int64_t chunk_frames = kWanChunkFrames) const;
  /// The same in squares of pixels, of which each goes through the whole video before the next
  /// (join_tiles()): `frames` is asked anew for each. size and stride are multiples of
  /// scale_factor_spatial.
  Tensor in_tiles(std::int64_t count, const Frames& frames, const VaeTiles& tiles) const;
  /// Of a video [1, count, H, W, 3] in memory.
  Tensor operator()(const Tensor& video, std::int64_t chunk_frames = kWanChunkFrames) const;

 private:
  struct DownBlock {
    std::vector<WanResnet> resnets;
    std::optional<WanDownsampler> downsampler;  ///< absent in the last block
    std::int64_t channels = 0;                  ///< of the shortcut around the block; 0: none
    std::int64_t time_factor = 1;               ///< of the shortcut
    std::int64_t space_factor = 1;
  };

  Tensor down(const DownBlock& block, Tensor x, CausalHistory& history) const;
  Tensor encode(const Tensor& frames, CausalHistory& history) const;

  WanVaeConfig config_;
  DType dtype_;
  WanLatentStatistics statistics_;
  CausalConv3d conv_in_;
  std::vector<DownBlock> down_blocks_;
  WanMidBlock mid_block_;
  nn::ChannelNorm norm_out_;
  CausalConv3d conv_out_;
  nn::Linear quant_conv_;
};

}  // namespace dither::models
