#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "media/image.h"

namespace dither {

/// Largest width and height of a JPEG that is read.
inline constexpr int kMaxJpegExtent = 16384;

/// A JPEG as RGB, upright: grey and YCbCr as JFIF has them, CMYK and YCCK as Pillow converts them,
/// inverted as Adobe stores them. `name` is for messages. Throws kDataLoss (malformed, truncated),
/// kUnsupported (too large, arithmetic coding and other kinds that libjpeg does not take).
Image decode_jpeg(std::span<const std::byte> file, std::string_view name);

}  // namespace dither
