#include "pipelines/decoded_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "base/error.h"

namespace dither {
namespace {

using ::testing::ElementsAre;

TEST(DecodedImage, TakesPixelsAsTheyAre) {
  const Tensor pixels = Tensor::host({1, 1, 2, 3}, DType::kU8);
  std::ranges::copy(std::array<std::uint8_t, 6>{1, 2, 3, 253, 254, 255},
                    pixels.data<std::uint8_t>());
  Image image = solid_image(2, 1, 0);
  paste(pixels, 0, 0, image);
  EXPECT_THAT(image.pixels, ElementsAre(1, 2, 3, 253, 254, 255));
}

TEST(DecodedImage, RefusesOtherShapes) {
  Image image = solid_image(1, 1, 0);
  EXPECT_THROW(paste(Tensor::host({2, 1, 1, 3}, DType::kU8), 0, 0, image), Error);
  EXPECT_THROW(paste(Tensor::host({1, 1, 1, 4}, DType::kU8), 0, 0, image), Error);
  EXPECT_THROW(paste(Tensor::host({1, 1, 1, 3}, DType::kF32), 0, 0, image), Error);
}

TEST(DecodedImage, PartsGoToTheirPlace) {
  Image image = solid_image(3, 2, 7);
  Tensor part = Tensor::host({1, 1, 2, 3}, DType::kU8);
  for (int i = 0; i < 6; ++i) part.data<std::uint8_t>()[i] = static_cast<std::uint8_t>(i);
  paste(part, 1, 1, image);
  EXPECT_THAT(image.pixels, ElementsAre(7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 1, 2, 3, 4, 5));
  for (const auto& [top, left] : {std::pair(2, 0), std::pair(0, 2), std::pair(-1, 0)}) {
    EXPECT_THROW(paste(part, top, left, image), Error);
  }
}

}  // namespace
}  // namespace dither
