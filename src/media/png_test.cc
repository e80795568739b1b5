#include "media/png.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/test_util.h"
#include "media/grid.h"

namespace dither {
namespace {

using ::testing::HasSubstr;
using ::testing::TestWithParam;
using ::testing::Values;

Image noise_image(int width, int height) {
  Image image = solid_image(width, height, 0);
  std::mt19937 random(7);
  for (auto& sample : image.pixels) sample = static_cast<std::uint8_t>(random());
  return image;
}

std::filesystem::path golden(const char* name) {
  return std::filesystem::path(DITHER_SOURCE_DIR) / "tests/golden" / name;
}

struct SizeCase {
  int width;
  int height;
};
class PngRoundTrip : public TestWithParam<SizeCase> {};

TEST_P(PngRoundTrip, KeepsPixels) {
  const Image image = noise_image(GetParam().width, GetParam().height);
  EXPECT_EQ(decode_png(encode_png(image), "memory"), image);
}
INSTANTIATE_TEST_SUITE_P(Table, PngRoundTrip,
                         Values(SizeCase{1, 1}, SizeCase{1, 300}, SizeCase{300, 1},
                                SizeCase{128, 128}, SizeCase{kMaxPngExtent, 2}));

TEST(Png, EqualInputGivesEqualBytes) {
  const Image image = noise_image(16, 16);
  const PngText text = {{"parameters", "seed 1"}};
  EXPECT_EQ(encode_png(image, text), encode_png(image, text));
}

TEST(Png, CarriesUtf8Text) {
  const PngText text = {{"prompt", "ein Löwe 🦁\nsecond line"},
                        {"empty", ""},
                        {"prompt", "twice"},
                        {"long", std::string(1 << 20, 'x')}};
  EXPECT_EQ(decode_png_text(encode_png(noise_image(3, 2), text), "memory"), text);
}

// The pictures of tests/fuzz/make_png_corpus.py.
std::filesystem::path seed(const char* name) {
  return std::filesystem::path(DITHER_SOURCE_DIR) / "tests/fuzz/corpus/png_fuzz" / name;
}

using Pixel = std::array<int, 3>;
Pixel color(int x, int y) { return {50 * x, 60 * y, 10 * x * y}; }
Pixel grey(int x, int) { return {60 * x, 60 * x, 60 * x}; }
Pixel checker(int x, int y) {
  const int value = (x + y) % 2 * 255;
  return {value, value, value};
}

struct KindCase {
  const char* file;
  Pixel (*expected)(int x, int y);
};
class PngKinds : public TestWithParam<KindCase> {};

TEST_P(PngKinds, BecomeRgb) {
  const Image image = read_png(seed(GetParam().file));
  ASSERT_EQ(image.width, 5);
  ASSERT_EQ(image.height, 4);
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      const std::uint8_t* p = image.row(y) + 3 * static_cast<std::ptrdiff_t>(x);
      EXPECT_EQ((Pixel{p[0], p[1], p[2]}), GetParam().expected(x, y)) << x << ", " << y;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Table, PngKinds,
                         Values(KindCase{"rgb.png", color}, KindCase{"rgb16.png", color},
                                KindCase{"rgba.png", color}, KindCase{"adam7.png", color},
                                KindCase{"palette.png", color}, KindCase{"grey.png", grey},
                                KindCase{"grey16.png", grey}, KindCase{"grey_alpha.png", grey},
                                KindCase{"grey1.png", checker}));

TEST(Png, ReadsEveryKindOfTextAsUtf8) {
  EXPECT_EQ(read_png_text(seed("rgb.png")),
            (PngText{{"Comment", "café"}, {"prompt", "Löwe"}, {"Notes", "one two"}}));
}

TEST(Png, ReadsPicturesOfOtherWriters) {
  const Image image = read_png(golden("case0_fp32_cpu.png"));
  EXPECT_EQ(image.width, 128);
  EXPECT_EQ(image.height, 128);
  EXPECT_EQ(decode_png(encode_png(image), "memory"), image);
}

TEST(Png, WritesAtomically) {
  const TempFolder folder;
  const auto path = folder.path() / "picture.png";
  write_png(path, noise_image(8, 8), {{"k", "v"}});
  const Image before = read_png(path);
  EXPECT_THROW(write_png(path, Image{}), Error);
  EXPECT_EQ(read_png(path), before);
  EXPECT_EQ(read_png_text(path), (PngText{{"k", "v"}}));
  const Error error = error_of([&] { write_png(folder.path() / "no/a.png", before); });
  EXPECT_EQ(error.code(), ErrorCode::kNotFound);
}

TEST(Png, RefusesTruncationAtEveryByte) {
  const auto file = encode_png(noise_image(5, 4), {{"prompt", "x"}});
  for (std::size_t size = 0; size < file.size(); ++size) {
    const Error error = error_of([&] { decode_png(std::span(file).first(size), "cut.png"); });
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss) << size;
    EXPECT_THAT(error.what(), HasSubstr("cut.png")) << size;
  }
}

TEST(Png, RefusesAChunkLongerThanTheFile) {
  for (const auto read : {+[](const std::filesystem::path& path) { read_png(path); },
                          +[](const std::filesystem::path& path) { read_png_text(path); }}) {
    const Error error = error_of([&] { read(seed("lying_length.png")); });
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), HasSubstr("the chunk at byte 33 claims 2064449552 bytes of data"));
  }
}

TEST(Png, RefusesAPictureThatTheFileCannotHold) {
  // IHDR of 16384 x 16384 pixels, correct checksum, then a valid but far too short file.
  auto file = encode_png(solid_image(kMaxPngExtent, 1, 0));
  const auto small = file.size();
  const unsigned char header[] = {0, 0, 0x40, 0, 0, 0, 0x40, 0, 8, 2, 0, 0, 0};
  std::memcpy(file.data() + 16, header, sizeof header);
  const unsigned char checksum[] = {0x26, 0xAA, 0x87, 0xD3};
  std::memcpy(file.data() + 29, checksum, sizeof checksum);
  const Error error = error_of([&] { decode_png(file, "bomb.png"); });
  EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
  EXPECT_THAT(error.what(), HasSubstr(std::to_string(small) + " bytes cannot hold 16384x16384"));
}

struct BadImage {
  const char* name;
  Image image;
  PngText text;
};
class PngWriterRefuses : public TestWithParam<BadImage> {};

TEST_P(PngWriterRefuses, WithInvalidArgument) {
  const auto& bad = GetParam();
  EXPECT_EQ(error_of([&] { encode_png(bad.image, bad.text); }).code(), ErrorCode::kInvalidArgument);
}
INSTANTIATE_TEST_SUITE_P(
    Table, PngWriterRefuses,
    Values(BadImage{"Empty", Image{}, {}}, BadImage{"Grey", Image{2, 2, 1, {1, 2, 3, 4}}, {}},
           BadImage{"TooFewBytes", Image{2, 2, 3, {1, 2, 3}}, {}},
           BadImage{"TooWide", solid_image(kMaxPngExtent + 1, 1, 0), {}},
           BadImage{"NoKeyword", solid_image(1, 1, 0), {{"", "x"}}},
           BadImage{"LongKeyword", solid_image(1, 1, 0), {{std::string(80, 'k'), "x"}}},
           BadImage{"ControlInKeyword", solid_image(1, 1, 0), {{"a\nb", "x"}}},
           BadImage{"NulInText", solid_image(1, 1, 0), {{"k", std::string("a\0b", 3)}}}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Grid, TilesWithPadding) {
  const std::vector<Image> images = {solid_image(2, 1, 10), solid_image(2, 1, 20),
                                     solid_image(2, 1, 30)};
  const Image grid = make_grid(images, 2, 1, 255);
  ASSERT_EQ(grid.width, 7);   // 1 + 2 + 1 + 2 + 1
  ASSERT_EQ(grid.height, 5);  // 1 + 1 + 1 + 1 + 1
  const auto at = [&](int x, int y) { return grid.row(y)[3 * x]; };
  EXPECT_EQ(at(0, 0), 255);
  EXPECT_EQ(at(1, 1), 10);
  EXPECT_EQ(at(3, 1), 255);
  EXPECT_EQ(at(5, 1), 20);
  EXPECT_EQ(at(2, 3), 30);
  EXPECT_EQ(at(4, 3), 255);  // no fourth image
}

TEST(Grid, RefusesUnequalSizes) {
  const std::vector<Image> images = {solid_image(2, 1, 10), solid_image(1, 2, 20)};
  EXPECT_EQ(error_of([&] { make_grid(images, 2, 0); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error_of([&] { make_grid({}, 2, 0); }).code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace dither
