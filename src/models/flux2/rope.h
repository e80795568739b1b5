#pragma once

#include <cstdint>
#include <span>

#include "models/flux/rope.h"
#include "models/flux2/config.h"

namespace dither::models {

/// Rotary tables of the joint sequence [text, image, references].  A token has four coordinates
/// (t, y, x, l): text token i (0, 0, 0, i), the picture (0, y, x, 0), reference picture k
/// (10 + 10 k, y, x, 0).  [text_tokens + grid + references, head_dim / 2].
/// Source: diffusers' Flux2Pipeline (_prepare_text_ids, _prepare_latent_ids, _prepare_image_ids).
ops::Rope flux2_rope(const Flux2Config& config, std::int64_t text_tokens, TokenGrid grid,
                     std::span<const TokenGrid> references, ops::Backend& backend);

/// Those of the references alone.
ops::Rope flux2_reference_rope(const Flux2Config& config, std::span<const TokenGrid> references,
                               ops::Backend& backend);

}  // namespace dither::models
