#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dither {

/// 8-bit sRGB pixels, row by row from the top, channels interleaved: pixels[(y * width + x) *
/// channels + c].
struct Image {
  int width = 0;
  int height = 0;
  int channels = 3;
  std::vector<std::uint8_t> pixels;

  std::size_t row_bytes() const {
    return static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
  }
  std::uint8_t* row(int y) { return pixels.data() + static_cast<std::size_t>(y) * row_bytes(); }
  const std::uint8_t* row(int y) const {
    return pixels.data() + static_cast<std::size_t>(y) * row_bytes();
  }

  bool operator==(const Image&) const = default;
};

/// An RGB image whose every sample is `value`.
inline Image solid_image(int width, int height, std::uint8_t value) {
  Image image{.width = width, .height = height, .channels = 3, .pixels = {}};
  image.pixels.assign(image.row_bytes() * static_cast<std::size_t>(height), value);
  return image;
}

}  // namespace dither
