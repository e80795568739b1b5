#include "media/resize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>

#include "base/error.h"

namespace dither {
namespace {

constexpr double kLobes = 3;
constexpr int kPrecisionBits = 32 - 8 - 2;

double sinc(double x) {
  if (x == 0) return 1;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double lanczos(double x) { return -kLobes <= x && x < kLobes ? sinc(x) * sinc(x / kLobes) : 0; }

int nearest(double x) { return static_cast<int>(std::floor(x + 0.5)); }

/// What one sample of the result is made of: samples from `first` on, times these coefficients.
struct Taps {
  int first = 0;
  std::vector<std::int32_t> coefficients;
};

std::vector<Taps> make_taps(int in, int out) {
  const double scale = static_cast<double>(in) / out;
  const double widening = std::max(scale, 1.0);
  const double support = kLobes * widening;
  std::vector<Taps> all;
  for (int i = 0; i < out; ++i) {
    const double center = (i + 0.5) * scale;
    Taps taps{.first = std::max(nearest(center - support), 0), .coefficients = {}};
    const int end = std::min(nearest(center + support), in);
    std::vector<double> weights;
    double sum = 0;
    for (int k = taps.first; k < end; ++k) {
      weights.push_back(lanczos((k - center + 0.5) * (1.0 / widening)));
      sum += weights.back();
    }
    for (const double weight : weights) {
      const double normalized = sum != 0 ? weight / sum : weight;
      const double scaled = normalized * (1 << kPrecisionBits);
      taps.coefficients.push_back(
          static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
    }
    all.push_back(std::move(taps));
  }
  return all;
}

/// sum of coefficients * samples, `stride` apart, rounded to 8 bits.
std::uint8_t filter(const Taps& taps, const std::uint8_t* samples, std::size_t stride) {
  std::int32_t sum = 1 << (kPrecisionBits - 1);
  for (const std::int32_t coefficient : taps.coefficients) {
    sum += coefficient * *samples;
    samples += stride;
  }
  return static_cast<std::uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

Image empty_image(int width, int height, int channels) {
  Image image{.width = width, .height = height, .channels = channels, .pixels = {}};
  image.pixels.resize(image.row_bytes() * static_cast<std::size_t>(height));
  return image;
}

Image resize_rows(const Image& image, int width) {
  const std::vector<Taps> taps = make_taps(image.width, width);
  const auto channels = static_cast<std::size_t>(image.channels);
  Image result = empty_image(width, image.height, image.channels);
  for (int y = 0; y < image.height; ++y) {
    std::uint8_t* out = result.row(y);
    for (const Taps& of_pixel : taps) {
      const std::uint8_t* in = image.row(y) + static_cast<std::size_t>(of_pixel.first) * channels;
      for (std::size_t c = 0; c < channels; ++c) *out++ = filter(of_pixel, in + c, channels);
    }
  }
  return result;
}

Image resize_columns(const Image& image, int height) {
  const std::vector<Taps> taps = make_taps(image.height, height);
  Image result = empty_image(image.width, height, image.channels);
  for (int y = 0; y < height; ++y) {
    const Taps& of_row = taps[static_cast<std::size_t>(y)];
    for (std::size_t i = 0; i < image.row_bytes(); ++i) {
      result.row(y)[i] = filter(of_row, image.row(of_row.first) + i, image.row_bytes());
    }
  }
  return result;
}

void require(bool condition, std::string_view what, const Image& image, int width, int height) {
  if (condition) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: {}x{} from {}x{}", what, width, height, image.width, image.height));
}

}  // namespace

Image resize_lanczos(const Image& image, int width, int height) {
  require(image.width > 0 && image.height > 0 && width > 0 && height > 0, "resize", image, width,
          height);
  Image result = width == image.width ? image : resize_rows(image, width);
  return height == result.height ? result : resize_columns(result, height);
}

Image center_crop(const Image& image, int width, int height) {
  require(width > 0 && height > 0 && width <= image.width && height <= image.height, "crop", image,
          width, height);
  const int left = (image.width - width) / 2;
  const int top = (image.height - height) / 2;
  Image result = empty_image(width, height, image.channels);
  for (int y = 0; y < height; ++y) {
    std::copy_n(image.row(top + y) + static_cast<std::size_t>(left * image.channels),
                result.row_bytes(), result.row(y));
  }
  return result;
}

}  // namespace dither
