#pragma once

#include <cstdint>

#include "models/flux1/config.h"
#include "ops/backend.h"

namespace dither::models {

/// Image tokens of one picture: a token is a patch of 2 x 2 latents, 16 x 16 pixels.
struct TokenGrid {
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  std::int64_t tokens() const { return rows * cols; }
};

/// Rotary tables of the joint sequence [text, image].  [text_tokens + rows cols, head_dim / 2].
/// A token has three coordinates, (0, y, x) for the image and (0, 0, 0) for all text; pair k of an
/// axis with D channels turns by position * 10000^(-2k / D). Angles are float64 (Su et al. 2021;
/// FLUX.1's EmbedND).
ops::Rope flux1_rope(const Flux1Config& config, std::int64_t text_tokens, TokenGrid grid,
                     ops::Backend& backend);

}  // namespace dither::models
