#pragma once

#include <cstdint>
#include <functional>

#include "tensor/tensor.h"

namespace dither::models {

/// Squares in which an autoencoder takes what is too large for it, in latents along a side where it
/// decodes and in pixels where it encodes: each begins `stride` behind the one before, 1 <= stride
/// <= size.
struct VaeTiles {
  std::int64_t size = 0;
  std::int64_t stride = 0;
};

/// Whether latents or pixels [..., h, w, C] are more than one square.
bool exceeds(const VaeTiles& tiles, const Tensor& x);

/// Called with rectangles [..., h, w, C] of the result, whose upper left corner is `top` and `left`
/// from its own. They are row by row from the top, and touch each other.
using OnTile = std::function<void(const Tensor& tile, std::int64_t top, std::int64_t left)>;

/// A square of what is taken in squares, cut where that ends.
struct TileRect {
  std::int64_t top = 0;
  std::int64_t left = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;

  /// Its part of x [..., h, w, C].
  Tensor of(const Tensor& x) const;
};

/// An extent of the result: up / down times that of what it is made of, which is a multiple of
/// `down`, as size and stride of the squares are.
struct TileScale {
  std::int64_t up = 1;
  std::int64_t down = 1;

  std::int64_t operator()(std::int64_t extent) const { return extent * up / down; }
};

/// height x width, square by square through `work`, which makes a tensor [..., h, w, C] of one, f32
/// or bf16, in memory of its own. Where two squares overlap the earlier one fades out: at place i
/// of n its weight is 1 - i / n, in float32. First a row of squares is joined to the one above,
/// then each square to the one on its left. Beside work's own memory it takes that of a row's
/// overlaps. Source: diffusers' AutoencoderKL.tiled_decode and AutoencoderKLWan.tiled_encode.
/// Throws kInvalidArgument (tiles), and what the functions throw.
void join_tiles(std::int64_t height, std::int64_t width, const VaeTiles& tiles,
                const TileScale& scale, const std::function<Tensor(const TileRect& rect)>& work,
                const OnTile& on_tile);

/// The same of latents [..., h, w, C] through `decode`, which makes `scale` times their extent.
void decode_tiles(const Tensor& latents, const VaeTiles& tiles, std::int64_t scale,
                  const std::function<Tensor(const Tensor& latents)>& decode,
                  const OnTile& on_tile);

}  // namespace dither::models
