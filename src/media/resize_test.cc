#include "media/resize.h"

#include <gtest/gtest.h>

#include "base/test_util.h"

namespace dither {
namespace {

Image ramp(int width, int height) {
  Image image{.width = width, .height = height, .channels = 3, .pixels = {}};
  for (int i = 0; i < width * height * 3; ++i) {
    image.pixels.push_back(static_cast<std::uint8_t>(i));
  }
  return image;
}

TEST(ResizeLanczos, TheSameSizeIsTheSamePicture) {
  EXPECT_EQ(resize_lanczos(ramp(5, 4), 5, 4), ramp(5, 4));
}

TEST(ResizeLanczos, APlainPictureStaysPlain) {
  for (const auto& [width, height] : {std::pair{3, 9}, {40, 2}, {1, 1}}) {
    EXPECT_EQ(resize_lanczos(solid_image(7, 5, 200), width, height),
              solid_image(width, height, 200));
  }
}

TEST(ResizeLanczos, RefusesNothing) {
  EXPECT_EQ(error_of([] { resize_lanczos(ramp(2, 2), 0, 1); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error_of([] { resize_lanczos({}, 1, 1); }).code(), ErrorCode::kInvalidArgument);
}

TEST(CenterCrop, TakesTheMiddle) {
  const Image image = ramp(5, 4);
  const Image cropped = center_crop(image, 2, 2);
  EXPECT_EQ(cropped.pixels,
            (std::vector<std::uint8_t>{18, 19, 20, 21, 22, 23, 33, 34, 35, 36, 37, 38}));
  EXPECT_EQ(center_crop(image, 5, 4), image);
  EXPECT_EQ(error_of([&] { center_crop(image, 6, 4); }).code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace dither
