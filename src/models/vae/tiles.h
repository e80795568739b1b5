#pragma once

#include <cstdint>
#include <functional>

#include "tensor/tensor.h"

namespace dither::models {

/// Squares in which a decoder takes latents that are too large for it, in latents along a side:
/// each begins `stride` behind the one before, 1 <= stride <= size.
struct VaeTiles {
  std::int64_t size = 0;
  std::int64_t stride = 0;
};

/// Whether latents [..., h, w, C] are more than one square.
bool exceeds(const VaeTiles& tiles, const Tensor& latents);

/// Called with rectangles [..., h, w, C] of the decoded picture or video, whose upper left corner
/// is `top` and `left` from its own. They are row by row from the top, and touch each other.
using OnTile = std::function<void(const Tensor& tile, std::int64_t top, std::int64_t left)>;

/// latents [..., h, w, C], square by square through `decode`, which makes `scale` times the extent
/// of them, f32 or bf16. Where two squares overlap the earlier one fades out: at place i of n its
/// weight is 1 - i / n, in float32. First a row of squares is joined to the one above, then each
/// square to the one on its left. Beside decode's own memory it takes that of a row's overlaps.
/// Source: diffusers' AutoencoderKL.tiled_decode. Throws kInvalidArgument (tiles), and what the
/// functions throw.
void decode_tiles(const Tensor& latents, const VaeTiles& tiles, std::int64_t scale,
                  const std::function<Tensor(const Tensor& latents)>& decode,
                  const OnTile& on_tile);

}  // namespace dither::models
