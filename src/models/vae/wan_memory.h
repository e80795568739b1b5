#pragma once

#include <cstdint>
#include <functional>

#include "models/vae/wan_config.h"

namespace dither::models {

/// Elements of activations that a WanVaeDecoder or a WanVaeEncoder has in memory at once.
struct WanVaeElements {
  std::int64_t history = 0;  ///< frames that causal convolutions keep from chunk to chunk
  std::int64_t working = 0;  ///< at most, of a chunk under way
};

/// Of latents of `pixels` = h w a frame, kWanChunkFrames of them at once: at 832 x 480, Wan2.1's
/// 3.0 GB in bfloat16. Without what attention over a frame of latents takes, which is less wherever
/// the frame is smaller than a picture at full resolution, and without the latents.
/// `row_channels`: what a pixel of so many channels takes in a convolution's input
/// (ops::Backend::conv3d_row_channels).
WanVaeElements wan_decoder_elements(const WanVaeConfig& config, std::int64_t pixels,
                                    const std::function<std::int64_t(std::int64_t)>& row_channels);

/// The same for encoding a video of `frames` frames to latents of `pixels` a frame, without the
/// video: at 832 x 480, Wan2.1's 2.2 GB in bfloat16.
WanVaeElements wan_encoder_elements(const WanVaeConfig& config, std::int64_t pixels,
                                    std::int64_t frames,
                                    const std::function<std::int64_t(std::int64_t)>& row_channels);

/// What WanVaeDecoder::in_tiles() has beside that of a square of latents, at most: the square's
/// frames and a copy, the overlaps of two rows of squares, and in float32 where two are joined. Of
/// latents [1, F, h, w, C].
std::int64_t wan_tile_elements(const WanVaeConfig& config, std::int64_t frames, std::int64_t height,
                               std::int64_t width);

}  // namespace dither::models
