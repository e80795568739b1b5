// Pictures in another size against Pillow: make_resize.py.
#include "media/resize.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "golden/golden.h"
#include "golden/images.h"

namespace dither::golden {
namespace {

TEST(ResizeGolden, EqualsPillowBitForBit) {
  const auto file = SafetensorsFile::open(source_dir() / "tests/golden/resize.safetensors");
  for (int i = 0; i < 6; ++i) {
    const Image expected = image_of(file->read(fmt::format("{}.to", i)));
    EXPECT_EQ(resize_lanczos(image_of(file->read(fmt::format("{}.from", i))), expected.width,
                             expected.height),
              expected)
        << i;
  }
}

}  // namespace
}  // namespace dither::golden
