#pragma once

#include "media/image.h"
#include "tensor/tensor.h"

namespace dither {

/// A VAE's output as 8-bit RGB: round(255 * clamp(x / 2 + 1/2, 0, 1)), ties to even, NaN black.
/// decoded [1, h, w, 3] f32, contiguous, in host memory. The arithmetic is float32 whatever the
/// VAE ran in: diffusers does this step in bfloat16 there, which costs up to one level.
Image to_image(const Tensor& decoded);

}  // namespace dither
