#pragma once

#include "media/image.h"

namespace dither {

/// Another size by Lanczos' filter of three lobes, widened where the picture shrinks: bit for bit
/// Pillow's Image.resize(size, LANCZOS), whose coefficients are integers of 22 bits and whose rows
/// are rounded to 8 bits before the columns are filtered. Throws kInvalidArgument for an empty
/// image and sizes below 1.
Image resize_lanczos(const Image& image, int width, int height);

/// The middle of a picture, no larger than it: what is cut off is as much on both sides, less by
/// one on the left or at the top where it is odd. Throws kInvalidArgument for another size.
Image center_crop(const Image& image, int width, int height);

}  // namespace dither
