#pragma once

#include <cstdint>
#include <span>

#include "media/image.h"

namespace dither {

/// Lays images of one size out in rows of `columns`, `padding` pixels of `background` around each.
/// Throws kInvalidArgument on no images, images of different sizes, columns < 1 or padding < 0.
Image make_grid(std::span<const Image> images, int columns, int padding,
                std::uint8_t background = 255);

}  // namespace dither
