#pragma once

#include "media/image.h"
#include "tensor/tensor.h"

namespace dither {

/// An image as an autoencoder's encoder takes it: 2 x / 255 - 1.  [1, height, width, channels] f32
/// in host memory.
Tensor to_pixels(const Image& image);

}  // namespace dither
