#include "media/i420.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <random>

#include "base/test_util.h"

namespace dither {
namespace {

Image random_image(int width, int height) {
  Image image = solid_image(width, height, 0);
  std::mt19937 random(3);
  for (auto& sample : image.pixels) sample = static_cast<std::uint8_t>(random());
  return image;
}

/// Y, Cb, Cr of BT.709 in limited range, not rounded.
std::array<double, 3> bt709(double r, double g, double b) {
  const double y = (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
  return {16 + 219 * y, 128 + 224 * (b / 255 - y) / 1.8556, 128 + 224 * (r / 255 - y) / 1.5748};
}

struct ColorCase {
  std::array<int, 3> rgb;
  std::array<int, 3> ycbcr;  // ITU-R BT.709's colour bars at 100 %, rounded by hand
};
class Color : public testing::TestWithParam<ColorCase> {};

TEST_P(Color, IsTheStandards) {
  Image image = solid_image(4, 2, 0);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] = static_cast<std::uint8_t>(GetParam().rgb.at(i % 3));
  }
  const I420 picture = to_i420(image);
  EXPECT_THAT(picture.y, testing::Each(GetParam().ycbcr[0]));
  EXPECT_THAT(picture.cb, testing::Each(GetParam().ycbcr[1]));
  EXPECT_THAT(picture.cr, testing::Each(GetParam().ycbcr[2]));
  const Image back = to_rgb(picture);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) {
    EXPECT_NEAR(back.pixels[i], image.pixels[i], 2) << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Table, Color,
                         testing::Values(ColorCase{{0, 0, 0}, {16, 128, 128}},
                                         ColorCase{{255, 255, 255}, {235, 128, 128}},
                                         ColorCase{{255, 255, 0}, {219, 16, 138}},
                                         ColorCase{{0, 255, 255}, {188, 154, 16}},
                                         ColorCase{{0, 255, 0}, {173, 42, 26}},
                                         ColorCase{{255, 0, 255}, {78, 214, 230}},
                                         ColorCase{{255, 0, 0}, {63, 102, 240}},
                                         ColorCase{{0, 0, 255}, {32, 240, 118}}));

TEST(I420, IsWithinItsBoundOfTheFormula) {
  const Image image = random_image(38, 22);
  const I420 picture = to_i420(image);
  const auto at = [&](int x, int y) {
    const std::uint8_t* p = image.row(y) + 3 * std::clamp(x, 0, image.width - 1);
    return std::array<double, 3>{double(p[0]), double(p[1]), double(p[2])};
  };
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      const auto [r, g, b] = at(x, y);
      EXPECT_NEAR(picture.y[static_cast<std::size_t>(y * 38 + x)], bt709(r, g, b)[0], 0.51);
    }
  }
  for (int y = 0; y < image.height / 2; ++y) {
    for (int x = 0; x < image.width / 2; ++x) {
      std::array<double, 3> mean{};
      for (int dx = -1; dx <= 1; ++dx) {
        for (int dy = 0; dy <= 1; ++dy) {
          const auto pixel = at(2 * x + dx, 2 * y + dy);
          for (std::size_t c = 0; c < 3; ++c) mean[c] += pixel[c] * (dx == 0 ? 2 : 1) / 8;
        }
      }
      const auto ycbcr = bt709(mean[0], mean[1], mean[2]);
      const auto i = static_cast<std::size_t>(y * 19 + x);
      EXPECT_NEAR(picture.cb[i], ycbcr[1], 0.51);
      EXPECT_NEAR(picture.cr[i], ycbcr[2], 0.51);
    }
  }
}

// Grey has no chroma to lose: Y has 219 levels for 255, so a level is off by at most 255 / 219 / 2,
// rounded again.
TEST(I420, GreyComesBackWithinALevel) {
  for (int value = 0; value < 256; ++value) {
    const Image back = to_rgb(to_i420(solid_image(4, 4, static_cast<std::uint8_t>(value))));
    for (const std::uint8_t sample : back.pixels) EXPECT_LE(std::abs(sample - value), 1) << value;
  }
}

TEST(I420, RefusesOddSidesAndOtherChannels) {
  for (const auto& [width, height, channels] :
       {std::array{3, 2, 3}, std::array{2, 3, 3}, std::array{0, 0, 3}, std::array{2, 2, 4}}) {
    Image image = solid_image(width, height, 0);
    image.channels = channels;
    EXPECT_EQ(error_of([&] { to_i420(image); }).code(), ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace dither
