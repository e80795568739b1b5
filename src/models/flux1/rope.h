#pragma once

#include <cstdint>

#include "models/flux/rope.h"
#include "models/flux1/config.h"

namespace dither::models {

/// Rotary tables of the joint sequence [text, image].  [text_tokens + rows cols, head_dim / 2].
/// A token has three coordinates, (0, y, x) for the image and (0, 0, 0) for all text; theta is
/// 10000. Source: FLUX.1's EmbedND.
ops::Rope flux1_rope(const Flux1Config& config, std::int64_t text_tokens, TokenGrid grid,
                     ops::Backend& backend);

}  // namespace dither::models
