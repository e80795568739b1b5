#include "pipelines/encoder_input.h"

#include <gtest/gtest.h>

namespace dither {
namespace {

TEST(EncoderInput, PixelsReachFromMinusOneToOne) {
  Image image = solid_image(1, 1, 0);
  image.pixels = {0, 51, 255};
  const Tensor pixels = to_pixels(image);
  EXPECT_EQ(pixels.shape(), Shape({1, 1, 1, 3}));
  EXPECT_EQ(pixels.data<float>()[0], -1.0F);
  EXPECT_FLOAT_EQ(pixels.data<float>()[1], -0.6F);
  EXPECT_EQ(pixels.data<float>()[2], 1.0F);
}

}  // namespace
}  // namespace dither
