#include "pipelines/decoded_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/error.h"

namespace dither {
namespace {

using ::testing::ElementsAre;

TEST(DecodedImage, TakesPixelsAsTheyAre) {
  const Tensor pixels = Tensor::host({1, 1, 2, 3}, DType::kU8);
  std::ranges::copy(std::array<std::uint8_t, 6>{1, 2, 3, 253, 254, 255},
                    pixels.data<std::uint8_t>());
  const Image image = to_image(pixels);
  EXPECT_EQ(image.width, 2);
  EXPECT_EQ(image.height, 1);
  EXPECT_THAT(image.pixels, ElementsAre(1, 2, 3, 253, 254, 255));
}

TEST(DecodedImage, RefusesOtherShapes) {
  EXPECT_THROW(to_image(Tensor::host({2, 1, 1, 3}, DType::kU8)), Error);
  EXPECT_THROW(to_image(Tensor::host({1, 1, 1, 4}, DType::kU8)), Error);
  EXPECT_THROW(to_image(Tensor::host({1, 1, 1, 3}, DType::kF32)), Error);
}

}  // namespace
}  // namespace dither
