#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "media/image.h"
#include "tensor/tensor.h"

namespace dither::golden {

/// [height, width, 3] u8.
inline Image image_of(const Tensor& pixels) {
  const auto* const begin = pixels.data<std::uint8_t>();
  return {.width = static_cast<int>(pixels.dim(1)),
          .height = static_cast<int>(pixels.dim(0)),
          .channels = 3,
          .pixels = {begin, begin + pixels.elements()}};
}

/// Equal up to what is rounded the other way: one level.
inline void expect_image(const Image& actual, const Image& expected) {
  ASSERT_EQ(actual.pixels.size(), expected.pixels.size());
  std::vector<int> differences(expected.pixels.size());
  std::ranges::transform(actual.pixels, expected.pixels, differences.begin(),
                         [](int a, int b) { return std::abs(a - b); });
  EXPECT_THAT(differences, ::testing::Each(::testing::Le(1)));
}

/// Likewise, and in few places.
inline void expect_frames(const std::vector<Image>& frames, const Tensor& expected) {
  ASSERT_THAT(frames, ::testing::SizeIs(static_cast<std::size_t>(expected.dim(0))));
  std::vector<int> differences;
  const auto* level = expected.data<std::uint8_t>();
  for (const Image& frame : frames) {
    ASSERT_EQ(frame.width, expected.dim(2));
    ASSERT_EQ(frame.height, expected.dim(1));
    for (const std::uint8_t value : frame.pixels) differences.push_back(std::abs(value - *level++));
  }
  EXPECT_THAT(differences, ::testing::Each(::testing::Le(1)));
  const auto count = std::ranges::count(differences, 1);
  EXPECT_LE(static_cast<double>(count), 1e-3 * static_cast<double>(differences.size()));
}

}  // namespace dither::golden
