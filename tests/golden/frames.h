#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "media/image.h"
#include "tensor/tensor.h"

namespace dither::golden {

/// Equal up to what is rounded the other way: one level, in few places.
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
