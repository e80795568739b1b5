#pragma once

#include "models/wan/rope.h"
#include "pipelines/wan/wan_request.h"
#include "tensor/tensor.h"

namespace dither {

/// Latents as tokens of 2 x 2 neighbours, in the order in which the transformer puts a velocity
/// out: channel c of latent (dy, dx) of its token lies at (2 dy + dx) C + c.
/// [1, C, F, 2 h, 2 w] -> [1, F h w, 4 C] for `grid` F x h x w.
Tensor pack_video(const Tensor& latents, const models::VideoGrid& grid);

/// Back, as the autoencoder takes it: [1, F h w, 4 C] -> [1, F, 2 h, 2 w, C].
Tensor unpack_video(const Tensor& tokens, const models::VideoGrid& grid);

/// The inverse of that, for what the autoencoder makes: [1, F, 2 h, 2 w, C] -> [1, F h w, 4 C].
Tensor pack_frames(const Tensor& z);

/// Fills in what a transformer reads in one step, `input` [1, L, 4 C_in], converting the dtype:
/// latents [1, L, 4 C] and a picture's `condition` (WanPictureEncoder).
///  - kNone: the latents;
///  - kChannels: of each of a token's 2 x 2 the latents' channels, then the condition's;
///  - kFirstFrame: the latents, but for the first frame's tokens, which are the condition.
void write_input(const Tensor& latents, const Tensor& condition, PictureInput picture,
                 const Tensor& input);

}  // namespace dither
