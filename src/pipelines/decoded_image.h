#pragma once

#include "media/image.h"
#include "tensor/tensor.h"

namespace dither {

/// A decoded picture [1, h, w, 3] kU8, contiguous, in host memory: ops::to_pixels() of a VAE's
/// output. That is float32 arithmetic whatever the VAE ran in; diffusers does this step in bfloat16
/// there, which costs up to one level.
Image to_image(const Tensor& pixels);

}  // namespace dither
