#pragma once

#include <cstdint>

#include "models/flux/rope.h"
#include "models/wan/config.h"

namespace dither::models {

/// A video in tokens: a token is a patch of 2 x 2 latents of one latent frame.
struct VideoGrid {
  std::int64_t frames = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;

  std::int64_t tokens() const { return frames * height * width; }
};

/// Rotary tables of a video's tokens, frame by frame and row by row, [tokens, head_dim / 2]: of the
/// D channels of a head 2 floor(D / 6) turn with y, as many with x, the rest with time (44, 42 and
/// 42 of 128, in the order time, y, x). Source: diffusers' WanRotaryPosEmbed.
ops::Rope wan_rope(const WanConfig& config, const VideoGrid& grid, ops::Backend& backend);

}  // namespace dither::models
