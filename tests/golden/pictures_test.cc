// Pictures in every format that is read against Pillow: make_pictures.py.
#include <gtest/gtest.h>

#include <string>

#include "golden/golden.h"
#include "media/image_file.h"

namespace dither::golden {
namespace {

TEST(PicturesGolden, EqualPillowBitForBit) {
  const auto file = SafetensorsFile::open(source_dir() / "tests/golden/pictures.safetensors");
  constexpr std::string_view kFile = ".file";
  int pictures = 0;
  for (const TensorInfo& tensor : file->tensors()) {
    if (!tensor.name.ends_with(kFile)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - kFile.size());
    SCOPED_TRACE(name);
    const Tensor bytes = file->read(tensor.name);
    const Image image =
        decode_image(std::as_bytes(std::span(bytes.data<std::uint8_t>(),
                                             static_cast<std::size_t>(bytes.elements()))),
                     name);
    const Tensor rgb = file->read(name + ".rgb");
    ASSERT_EQ(image.height, rgb.dim(0));
    ASSERT_EQ(image.width, rgb.dim(1));
    ASSERT_EQ(image.channels, rgb.dim(2));
    EXPECT_TRUE(std::equal(image.pixels.begin(), image.pixels.end(), rgb.data<std::uint8_t>()));
    ++pictures;
  }
  EXPECT_EQ(pictures, 23);
}

}  // namespace
}  // namespace dither::golden
