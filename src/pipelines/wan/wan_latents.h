#pragma once

#include "models/wan/rope.h"
#include "tensor/tensor.h"

namespace dither {

/// Latents as tokens of 2 x 2 neighbours, in the order in which the transformer puts a velocity
/// out: channel c of latent (dy, dx) of its token lies at (2 dy + dx) C + c.
/// [1, C, F, 2 h, 2 w] -> [1, F h w, 4 C] for `grid` F x h x w.
Tensor pack_video(const Tensor& latents, const models::VideoGrid& grid);

/// Back, as the autoencoder takes it: [1, F h w, 4 C] -> [1, F, 2 h, 2 w, C].
Tensor unpack_video(const Tensor& tokens, const models::VideoGrid& grid);

}  // namespace dither
