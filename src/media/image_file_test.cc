#include "media/image_file.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/test_util.h"
#include "media/exif.h"
#include "media/png.h"

namespace dither {
namespace {

using std::string_view_literals::operator""sv;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

struct Foreign {
  std::string_view bytes;
  std::string_view message;
};

class ForeignFile : public testing::TestWithParam<Foreign> {};

TEST_P(ForeignFile, IsRefusedByName) {
  try {
    decode_image(bytes_of(GetParam().bytes), "a.jpg");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_EQ(error.what(), std::string(GetParam().message));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, ForeignFile,
    testing::Values(Foreign{"GIF89a....", "a.jpg: looks like GIF; PNG, JPEG and WebP are read"},
                    Foreign{"\0\0\0\x1c"
                            "ftypavif"sv,
                            "a.jpg: looks like AVIF; PNG, JPEG and WebP are read"},
                    Foreign{"\0\0\0\x18"
                            "ftypheic"sv,
                            "a.jpg: looks like HEIC; PNG, JPEG and WebP are read"},
                    Foreign{"\0\0\0\x18"
                            "ftypmif1"sv,
                            "a.jpg: looks like AVIF or HEIC; PNG, JPEG and WebP are read"},
                    Foreign{"\0\0\0\x20"
                            "ftypisom"sv,
                            "a.jpg: looks like a video (MP4 or MOV); PNG, JPEG and WebP are read"},
                    Foreign{"\0\0\0\x14"
                            "ftypqt  "sv,
                            "a.jpg: looks like a video (MP4 or MOV); PNG, JPEG and WebP are read"},
                    Foreign{"\0\0\0\x14"
                            "fty"sv,
                            "a.jpg: not a picture: PNG, JPEG and WebP are read"},
                    Foreign{"II*\0...."sv, "a.jpg: looks like TIFF; PNG, JPEG and WebP are read"},
                    Foreign{"", "a.jpg: not a picture: PNG, JPEG and WebP are read"},
                    Foreign{"RIFF....WAVE", "a.jpg: not a picture: PNG, JPEG and WebP are read"},
                    Foreign{"hello", "a.jpg: not a picture: PNG, JPEG and WebP are read"}));

TEST(Webp, ACanvasBeyondReasonIsRefusedBeforeMemoryIsTaken) {
  // RIFF, a VP8X chunk of 10 bytes with the animation's flag, canvas 16777216 x 21 (less one each).
  constexpr auto kFile = "RIFF\x16\0\0\0WEBPVP8X\x0A\0\0\0\x02\0\0\0\xFF\xFF\xFF\x14\0\0"sv;
  try {
    decode_image(bytes_of(kFile), "a.webp");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_STREQ(error.what(), "a.webp: 16777216x21 pixels, at most 67108864 in all are read");
  }
}

// Orientations are those of make_pictures.py's goldens; here are the blocks that Pillow cannot
// write.
struct ExifCase {
  std::string_view block;
  int orientation;
};

class ExifOrientation : public testing::TestWithParam<ExifCase> {};

TEST_P(ExifOrientation, IsFoundOrUpright) {
  EXPECT_EQ(exif_orientation(bytes_of(GetParam().block)), GetParam().orientation);
}

INSTANTIATE_TEST_SUITE_P(
    Table, ExifOrientation,
    testing::Values(ExifCase{"", 1}, ExifCase{"Exif\0\0"sv, 1},
                    // Byte order, directory at 8, one entry: tag, SHORT, count 1, value.
                    ExifCase{"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"sv, 6},
                    ExifCase{"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0"sv, 3},
                    ExifCase{"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0"sv, 1},
                    ExifCase{"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0\x06\0\0\0"sv, 1},
                    ExifCase{"II*\0\xFF\xFF\xFF\xFF\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"sv, 1},
                    ExifCase{"II*\0\x08\0\0\0\xFF\xFF\x0F\x01\x03\0\x01\0\0\0\x06\0\0\0"sv, 1}));

TEST(Oriented, TurnsAPictureUpright) {
  // Two rows of three samples: 0 1 2 / 3 4 5.
  const Image stored{.width = 3, .height = 2, .channels = 1, .pixels = {0, 1, 2, 3, 4, 5}};
  const std::vector<std::vector<std::uint8_t>> upright = {
      {0, 1, 2, 3, 4, 5}, {2, 1, 0, 5, 4, 3}, {5, 4, 3, 2, 1, 0}, {3, 4, 5, 0, 1, 2},
      {0, 3, 1, 4, 2, 5}, {3, 0, 4, 1, 5, 2}, {5, 2, 4, 1, 3, 0}, {2, 5, 1, 4, 0, 3}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Image image = oriented(stored, orientation);
    EXPECT_EQ(image.width, orientation < 5 ? 3 : 2) << orientation;
    EXPECT_EQ(image.pixels, upright[static_cast<std::size_t>(orientation - 1)]) << orientation;
  }
}

}  // namespace
}  // namespace dither
