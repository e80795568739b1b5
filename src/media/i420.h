#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "media/image.h"

namespace dither {

/// A picture as H.264 takes it: 8-bit BT.709 luma and, at half the width and height, chroma, in
/// limited range: black is Y 16, white 235, grey Cb = Cr = 128 (ITU-R BT.709-6, items 3.2 to 3.5).
/// Chroma samples lie on the luma samples of even columns and between rows: H.264's default,
/// chroma_sample_loc_type 0. width and height are even.
struct I420 {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> y;   ///< [height, width]
  std::vector<std::uint8_t> cb;  ///< [height / 2, width / 2]
  std::vector<std::uint8_t> cr;
};

/// Y = 16 + 219 E_Y, Cb = 128 + 224 (E_B - E_Y) / 1.8556, Cr = 128 + 224 (E_R - E_Y) / 1.5748 with
/// E = value / 255 and E_Y = 0.2126 E_R + 0.7152 E_G + 0.0722 E_B, rounded once. Chroma is of
/// pixels weighted 1 2 1 by 1 1, the border's repeated. Y is within 0.51 of the formula, Cb and Cr
/// too. Throws kInvalidArgument unless the image is RGB with even sides.
I420 to_i420(const Image& image);

/// The inverse, chroma interpolated linearly between its samples. Planes may have longer rows.
struct I420View {
  int width = 0;
  int height = 0;
  const std::uint8_t* y = nullptr;
  const std::uint8_t* cb = nullptr;
  const std::uint8_t* cr = nullptr;
  std::ptrdiff_t y_stride = 0;
  std::ptrdiff_t chroma_stride = 0;
};
Image to_rgb(const I420View& picture);
Image to_rgb(const I420& picture);

}  // namespace dither
