#pragma once

#include "media/image.h"
#include "models/vae/autoencoder_kl.h"
#include "tensor/tensor.h"

namespace dither {

/// Copies a decoded picture [1, h, w, 3] kU8, contiguous, in host memory, to its place in `image`,
/// which has room for it: ops::to_pixels() of a VAE's output. That is float32 arithmetic whatever
/// the VAE ran in; diffusers does this step in bfloat16 there, which costs up to one level. Throws
/// kInvalidArgument.
void paste(const Tensor& pixels, std::int64_t top, std::int64_t left, Image& image);

/// The picture of unscaled latents z [1, h, w, latent_channels] in the decoder's dtype; with
/// `tiling`, one that is larger than config.tiles() by squares (models/vae/tiles.h).
Image decode_picture(const models::AutoencoderKlDecoder& decoder,
                     const models::AutoencoderKlConfig& config, const Tensor& z, bool tiling);

}  // namespace dither
