#include "models/flux/latents.h"

#include "ops/ops.h"

namespace dither::models {

Tensor pack_latents(const Tensor& x) {
  const std::int64_t rows = x.dim(1) / 2;
  const std::int64_t cols = x.dim(2) / 2;
  const Tensor patches = x.unflatten(2, cols, 2).unflatten(1, rows, 2);  // [B, y, dy, x, dx, C]
  return ops::contiguous(patches.permute({0, 1, 3, 5, 2, 4}))
      .reshape({x.dim(0), rows * cols, 4 * x.dim(3)});
}

Tensor unpack_latents(const Tensor& tokens, TokenGrid grid) {
  const std::int64_t batch = tokens.dim(0);
  const std::int64_t channels = tokens.dim(2) / 4;
  const Tensor patches = ops::contiguous(tokens).reshape(
      {batch, grid.rows, grid.cols, channels, 2, 2});  // [B, y, x, C, dy, dx]
  return ops::contiguous(patches.permute({0, 1, 4, 2, 5, 3}))
      .reshape({batch, 2 * grid.rows, 2 * grid.cols, channels});
}

}  // namespace dither::models
