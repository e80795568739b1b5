#pragma once

#include <cstddef>
#include <span>

#include "media/image.h"

namespace dither {

/// The orientation (tag 0x0112 of the first directory) of an EXIF block, a TIFF file with or
/// without "Exif\0\0" before it: 1..8. 1, upright, where there is none or where the block is
/// damaged, as Pillow has it. Source: EXIF 2.3, 4.6.4.
int exif_orientation(std::span<const std::byte> exif);

/// The picture upright. `orientation` says where its first row and column are seen: 1 top left,
/// 2 top right, 3 bottom right, 4 bottom left, 5 left top, 6 right top, 7 right bottom, 8 left
/// bottom.
Image oriented(Image image, int orientation);

}  // namespace dither
