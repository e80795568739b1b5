#pragma once

#include "models/flux/rope.h"
#include "tensor/tensor.h"

namespace dither::models {

/// Latents as the transformer's tokens, row by row: a token's channel c * 4 + dy * 2 + dx is
/// channel c of pixel (dy, dx) of its 2 x 2 patch.  x [B, h, w, C] on a backend, any strides (noise
/// drawn as [B, C, h, w] comes as a permuted view), h and w even -> [B, h/2 w/2, 4 C].
Tensor pack_latents(const Tensor& x);

/// The inverse: tokens [B, rows cols, 4 C] -> [B, 2 rows, 2 cols, C].
Tensor unpack_latents(const Tensor& tokens, TokenGrid grid);

}  // namespace dither::models
