#include "pipelines/decoded_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"

namespace dither {
namespace {

using ::testing::ElementsAre;

TEST(DecodedImage, ScalesClampsAndRounds) {
  Tensor decoded = Tensor::host({1, 1, 4, 3}, DType::kF32);
  // 127.5 lies between two levels and goes to the even one; 2/255 is one level.
  const float values[] = {-1,
                          0,
                          1,
                          -7,
                          7,
                          1.0F / 255,
                          3.0F / 255,
                          -0.5F,
                          0.5F,
                          std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()};
  std::ranges::copy(values, decoded.data<float>());
  const Image image = to_image(decoded);
  EXPECT_EQ(image.width, 4);
  EXPECT_EQ(image.height, 1);
  EXPECT_THAT(image.pixels, ElementsAre(0, 128, 255, 0, 255, 128, 129, 64, 191, 0, 255, 0));
}

TEST(DecodedImage, RefusesOtherShapes) {
  EXPECT_THROW(to_image(Tensor::host({2, 1, 1, 3}, DType::kF32)), Error);
  EXPECT_THROW(to_image(Tensor::host({1, 1, 1, 4}, DType::kF32)), Error);
  EXPECT_THROW(to_image(Tensor::host({1, 1, 1, 3}, DType::kF16)), Error);
}

}  // namespace
}  // namespace dither
