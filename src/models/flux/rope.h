#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "ops/backend.h"

namespace dither::models {

/// Image tokens of one picture: a token is a patch of 2 x 2 latents, 16 x 16 pixels.
struct TokenGrid {
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  std::int64_t tokens() const { return rows * cols; }
};

/// A token's place along each rotary axis, from 0 on; a family uses as many of the four as it has.
using TokenPosition = std::array<std::int64_t, 4>;

/// Rotary tables of a sequence, [L, sum(axes_dims) / 2]: pair k of an axis with D channels turns by
/// position * theta^(-2k / D). Angles are float64 (Su et al. 2021; FLUX's EmbedND).
ops::Rope rope_tables(std::span<const TokenPosition> positions,
                      std::span<const std::int64_t> axes_dims, double theta, ops::Backend& backend);

}  // namespace dither::models
