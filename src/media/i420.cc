#include "media/i420.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace dither {
namespace {

// BT.709's luma weights, and the fixed point that products are added in.
constexpr double kRed = 0.2126;
constexpr double kBlue = 0.0722;
constexpr double kGreen = 1 - kRed - kBlue;
constexpr int kBits = 16;

constexpr int fixed(double value, int bits) {
  const double scaled = value * static_cast<double>(1 << bits);
  return static_cast<int>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

struct Weights {
  int r;
  int g;
  int b;
};

// The green weight takes the rounding of all: white is exactly 235, grey exactly 128.
constexpr Weights luma_weights() {
  constexpr double kScale = 219.0 / 255.0;
  const int r = fixed(kRed * kScale, kBits);
  const int b = fixed(kBlue * kScale, kBits);
  return {r, fixed(kScale, kBits) - r - b, b};
}
constexpr Weights kLuma = luma_weights();

// Of sums of 8 pixels, hence 3 bits fewer.
constexpr Weights cb_weights() {
  constexpr double kScale = 224.0 / 255.0 / (2 * (1 - kBlue));
  const int r = fixed(-kRed * kScale, kBits - 3);
  const int b = fixed((1 - kBlue) * kScale, kBits - 3);
  return {r, -r - b, b};
}
constexpr Weights cr_weights() {
  constexpr double kScale = 224.0 / 255.0 / (2 * (1 - kRed));
  const int r = fixed((1 - kRed) * kScale, kBits - 3);
  const int b = fixed(-kBlue * kScale, kBits - 3);
  return {r, -r - b, b};
}
constexpr Weights kCb = cb_weights();
constexpr Weights kCr = cr_weights();

constexpr int kHalf = 1 << (kBits - 1);

constexpr int dot(const Weights& weights, int r, int g, int b) {
  return weights.r * r + weights.g * g + weights.b * b;
}

void luma_row(const std::uint8_t* rgb, int width, std::uint8_t* y) {
  constexpr int kOffset = (16 << kBits) + kHalf;
  for (int x = 0; x < width; ++x, rgb += 3) {
    const int sum = dot(kLuma, rgb[0], rgb[1], rgb[2]);
    y[x] = static_cast<std::uint8_t>((sum + kOffset) >> kBits);
  }
}

/// One row of chroma of two rows of pixels. `sums` [3, width + 1] is scratch: per channel the sums
/// of the two rows, after a copy of the first.
void chroma_row(const std::uint8_t* upper, const std::uint8_t* lower, std::size_t width,
                std::vector<int>& sums, std::uint8_t* cb, std::uint8_t* cr) {
  const std::size_t stride = width + 1;
  for (std::size_t c = 0; c < 3; ++c) {
    int* const row = sums.data() + c * stride;
    for (std::size_t x = 0; x < width; ++x) row[x + 1] = upper[3 * x + c] + lower[3 * x + c];
    row[0] = row[1];
  }
  const auto filtered = [&](std::size_t channel, std::size_t x) {
    const int* const row = sums.data() + channel * stride + 2 * x;
    return row[0] + 2 * row[1] + row[2];
  };
  constexpr int kOffset = (128 << kBits) + kHalf;
  for (std::size_t x = 0; x < width / 2; ++x) {
    const int r = filtered(0, x);
    const int g = filtered(1, x);
    const int b = filtered(2, x);
    cb[x] = static_cast<std::uint8_t>((dot(kCb, r, g, b) + kOffset) >> kBits);
    cr[x] = static_cast<std::uint8_t>((dot(kCr, r, g, b) + kOffset) >> kBits);
  }
}

// Of chroma in eighths, hence 3 bits fewer.
constexpr int kFromLuma = fixed(255.0 / 219.0, kBits);
constexpr int kRedFromCr = fixed(2 * (1 - kRed) * 255.0 / 224.0, kBits - 3);
constexpr int kBlueFromCb = fixed(2 * (1 - kBlue) * 255.0 / 224.0, kBits - 3);
constexpr int kGreenFromCr = fixed(2 * (1 - kRed) * kRed / kGreen * 255.0 / 224.0, kBits - 3);
constexpr int kGreenFromCb = fixed(2 * (1 - kBlue) * kBlue / kGreen * 255.0 / 224.0, kBits - 3);

/// Chroma of a row of pixels, in eighths: 3 to 1 between rows, in the middle between columns.
void upsample(const std::uint8_t* near, const std::uint8_t* far, std::vector<int>& out) {
  const std::size_t columns = out.size() / 2;
  const auto column = [&](std::size_t x) { return 3 * near[x] + far[x]; };
  for (std::size_t x = 0; x < columns; ++x) {
    const int value = column(x);
    out[2 * x] = 2 * value;
    out[2 * x + 1] = value + column(std::min(x + 1, columns - 1));
  }
}

std::uint8_t saturated(int value) {
  return static_cast<std::uint8_t>(std::clamp((value + kHalf) >> kBits, 0, 255));
}

void rgb_row(const std::uint8_t* y, const int* cb, const int* cr, int width, std::uint8_t* rgb) {
  constexpr int kGrey = 128 * 8;
  for (int x = 0; x < width; ++x, rgb += 3) {
    const int luma = (y[x] - 16) * kFromLuma;
    const int blue = cb[x] - kGrey;
    const int red = cr[x] - kGrey;
    rgb[0] = saturated(luma + kRedFromCr * red);
    rgb[1] = saturated(luma - kGreenFromCr * red - kGreenFromCb * blue);
    rgb[2] = saturated(luma + kBlueFromCb * blue);
  }
}

}  // namespace

I420 to_i420(const Image& image) {
  if (image.channels != 3 || image.width <= 0 || image.height <= 0 || image.width % 2 != 0 ||
      image.height % 2 != 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("H.264 takes RGB of even width and height, not {} x {} with {} channels",
                    image.width, image.height, image.channels));
  }
  const auto width = static_cast<std::size_t>(image.width);
  const auto height = static_cast<std::size_t>(image.height);
  I420 out;
  out.width = image.width;
  out.height = image.height;
  out.y.resize(width * height);
  out.cb.resize(width * height / 4);
  out.cr.resize(width * height / 4);
  std::vector<int> sums(3 * (width + 1));
  for (std::size_t row = 0; row < height; row += 2) {
    const std::uint8_t* const upper = image.row(static_cast<int>(row));
    const std::uint8_t* const lower = image.row(static_cast<int>(row) + 1);
    luma_row(upper, image.width, out.y.data() + row * width);
    luma_row(lower, image.width, out.y.data() + (row + 1) * width);
    const std::size_t chroma = row / 2 * (width / 2);
    chroma_row(upper, lower, width, sums, out.cb.data() + chroma, out.cr.data() + chroma);
  }
  return out;
}

Image to_rgb(const I420View& picture) {
  Image image = solid_image(picture.width, picture.height, 0);
  std::vector<int> cb(static_cast<std::size_t>(picture.width));
  std::vector<int> cr(cb.size());
  const int rows = picture.height / 2;
  for (int y = 0; y < picture.height; ++y) {
    const int near = y / 2;
    const int far = std::clamp(y % 2 == 0 ? near - 1 : near + 1, 0, rows - 1);
    const auto at = [&](const std::uint8_t* plane, int row) {
      return plane + row * picture.chroma_stride;
    };
    upsample(at(picture.cb, near), at(picture.cb, far), cb);
    upsample(at(picture.cr, near), at(picture.cr, far), cr);
    rgb_row(picture.y + y * picture.y_stride, cb.data(), cr.data(), picture.width, image.row(y));
  }
  return image;
}

Image to_rgb(const I420& picture) {
  return to_rgb({.width = picture.width,
                 .height = picture.height,
                 .y = picture.y.data(),
                 .cb = picture.cb.data(),
                 .cr = picture.cr.data(),
                 .y_stride = picture.width,
                 .chroma_stride = picture.width / 2});
}

}  // namespace dither
