#include "models/vae/tiles.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/error.h"
#include "nn/multiply.h"

namespace dither::models {
namespace {

constexpr int kHeight = -3;
constexpr int kWidth = -2;

/// The last n rows or columns, in memory of their own.
Tensor end_of(const Tensor& x, int dim, std::int64_t n) {
  const std::int64_t extent = x.dim(dim);
  const Tensor end = x.slice(dim, extent - std::min(n, extent), extent);
  const Tensor copy = ops::empty_like(end, end.shape());
  ops::copy(end, copy);
  return copy;
}

/// i / n at place i of `dim`, of the shape that `x` has from there on.
Tensor ramp_for(const Tensor& x, int dim) {
  const std::int64_t n = x.dim(dim);
  Shape shape;
  for (int d = dim; d < 0; ++d) shape.push_back(x.dim(d));
  const Tensor ramp = Tensor::host(shape, DType::kF32);
  const std::int64_t inner = ramp.elements() / n;
  for (std::int64_t i = 0; i < n; ++i) {
    std::fill_n(ramp.data<float>() + i * inner, inner,
                static_cast<float>(i) / static_cast<float>(n));
  }
  return ops::backend_of(x).upload(ramp, DType::kF32);
}

/// The first rows or columns of `tile` become (1 - r) before + r tile, r from 0 to 1.
void fade(const Tensor& before, const Tensor& tile, int dim) {
  const std::int64_t n = std::min(before.dim(dim), tile.dim(dim));
  const Tensor place = tile.slice(dim, 0, n);
  const auto floats = [](const Tensor& x) { return ops::cast(ops::contiguous(x), DType::kF32); };
  const Tensor from = floats(before.slice(dim, before.dim(dim) - n, before.dim(dim)));
  const Tensor weights = ops::add(ops::affine(from, 0, 0), ramp_for(from, dim));
  const Tensor difference = ops::add_scaled(floats(place), from, -1);
  const Tensor mixed = ops::add(from, nn::multiply({difference, weights}));
  ops::copy(ops::cast(mixed, tile.dtype()), place);
}

}  // namespace

bool exceeds(const VaeTiles& tiles, const Tensor& x) {
  return std::max(x.dim(kHeight), x.dim(kWidth)) > tiles.size;
}

Tensor TileRect::of(const Tensor& x) const {
  return ops::contiguous(x.slice(kHeight, top, top + height).slice(kWidth, left, left + width));
}

void join_tiles(std::int64_t height, std::int64_t width, const VaeTiles& tiles,
                const TileScale& scale, const std::function<Tensor(const TileRect& rect)>& work,
                const OnTile& on_tile) {
  if (tiles.stride < 1 || tiles.stride > tiles.size) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("VAE: tiles of {}, {} apart: they must be at least 1 apart and at most "
                            "their size",
                            tiles.size, tiles.stride));
  }
  const std::int64_t overlap = scale(tiles.size - tiles.stride);
  const std::int64_t step = scale(tiles.stride);
  std::vector<Tensor> above;
  for (std::int64_t y = 0; y < height; y += tiles.stride) {
    std::vector<Tensor> lower;
    Tensor left;
    for (std::int64_t x = 0; x < width; x += tiles.stride) {
      const Tensor tile = work({.top = y,
                                .left = x,
                                .height = std::min(tiles.size, height - y),
                                .width = std::min(tiles.size, width - x)});
      if (overlap > 0) {
        if (y > 0) fade(above[lower.size()], tile, kHeight);
        if (x > 0) fade(left, tile, kWidth);
        lower.push_back(end_of(tile, kHeight, overlap));
        left = end_of(tile, kWidth, overlap);
      }
      on_tile(tile.slice(kHeight, 0, std::min(step, tile.dim(kHeight)))
                  .slice(kWidth, 0, std::min(step, tile.dim(kWidth))),
              scale(y), scale(x));
    }
    above = std::move(lower);
  }
}

void decode_tiles(const Tensor& latents, const VaeTiles& tiles, std::int64_t scale,
                  const std::function<Tensor(const Tensor& latents)>& decode,
                  const OnTile& on_tile) {
  join_tiles(
      latents.dim(kHeight), latents.dim(kWidth), tiles, {.up = scale},
      [&](const TileRect& rect) { return decode(rect.of(latents)); }, on_tile);
}

}  // namespace dither::models
