#include "media/video.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/test_util.h"
#include "media/xmp.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A soft pattern that moves: what H.264 is for.
Image frame_of(int width, int height, int time) {
  Image image = solid_image(width, height, 0);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      std::uint8_t* p = image.row(y) + 3 * static_cast<std::ptrdiff_t>(x);
      const double wave = std::sin(0.13 * (x + 2 * time)) + std::cos(0.09 * (y - time));
      p[0] = static_cast<std::uint8_t>(128 + 60 * wave);
      p[1] = static_cast<std::uint8_t>(128 - 50 * wave);
      p[2] = static_cast<std::uint8_t>(100 + 30 * wave + time);
    }
  }
  return image;
}

double psnr(const Image& a, const Image& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    const double difference = a.pixels[i] - b.pixels[i];
    sum += difference * difference;
  }
  return 10 * std::log10(255 * 255 * static_cast<double>(a.pixels.size()) / sum);
}

const PngText kText = {{"parameters", "ein L\xC3\xB6we & \"two\"\nlines <b>\ttab"},
                       {"dither", "{\"seed\":\"1\"}"}};

std::vector<fs::path> entries(const TempFolder& folder) {
  return {fs::directory_iterator(folder.path()), fs::directory_iterator()};
}

void write(const fs::path& path, const VideoSettings& settings, int frames) {
  const auto writer = create_video_writer(path, settings);
  for (int i = 0; i < frames; ++i) writer->add(frame_of(settings.width, settings.height, i));
  writer->finish();
}

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct VideoCase {
  const char* name;
  int width;
  int height;
  int fps;
  int frames;
  double least_psnr;
};
class Video : public testing::TestWithParam<VideoCase> {};

TEST_P(Video, ComesBack) {
  const VideoCase& expected = GetParam();
  const TempFolder folder;
  const fs::path path = folder.path() / expected.name;
  const VideoSettings settings{
      .width = expected.width, .height = expected.height, .fps = expected.fps, .text = kText};
  write(path, settings, expected.frames);
  EXPECT_TRUE(is_video(path));
  const auto reader = open_video(path);
  const VideoInfo& info = reader->info();
  EXPECT_EQ(info.width, expected.width);
  EXPECT_EQ(info.height, expected.height);
  EXPECT_EQ(info.frames, expected.frames);
  EXPECT_EQ(info.text, kText);
  if (fs::is_directory(path) || (path.extension() == ".webp" && expected.frames == 1)) {
    EXPECT_EQ(info.fps, 0);
  } else {
    // A WebP's duration is in whole milliseconds.
    EXPECT_NEAR(1 / info.fps, 1.0 / expected.fps, path.extension() == ".mp4" ? 1e-12 : 5e-4);
  }
  for (int i = 0; i < expected.frames; ++i) {
    const auto frame = reader->next();
    ASSERT_TRUE(frame);
    EXPECT_GE(psnr(*frame, frame_of(expected.width, expected.height, i)), expected.least_psnr) << i;
  }
  EXPECT_FALSE(reader->next());
}

TEST_P(Video, EqualInputGivesEqualBytes) {
  const VideoCase& video = GetParam();
  const TempFolder folder;
  const VideoSettings settings{.width = video.width, .height = video.height, .fps = video.fps};
  for (const char* side : {"a", "b"}) {
    fs::create_directory(folder.path() / side);
    write(folder.path() / side / video.name, settings, video.frames);
  }
  for (const auto& entry : fs::recursive_directory_iterator(folder.path() / "a")) {
    if (!entry.is_regular_file()) continue;
    const auto other = folder.path() / "b" / fs::relative(entry.path(), folder.path() / "a");
    EXPECT_EQ(content(entry.path()), content(other)) << entry.path();
  }
}

TEST_P(Video, IsNotThereBeforeItIsComplete) {
  const VideoCase& video = GetParam();
  const TempFolder folder;
  const fs::path path = folder.path() / video.name;
  const VideoSettings settings{.width = video.width, .height = video.height, .fps = video.fps};
  {
    const auto writer = create_video_writer(path, settings);
    EXPECT_EQ(error_of([&] { writer->finish(); }).code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(error_of([&] { writer->add(solid_image(8, 8, 0)); }).code(),
              ErrorCode::kInvalidArgument);
    writer->add(frame_of(video.width, video.height, 0));
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_THAT(entries(folder), IsEmpty());
}

TEST_P(Video, ADiskThatIsFullLeavesNothing) {
  const VideoCase& video = GetParam();
  const TempFolder folder;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 50;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Error error = error_of([&] {
    write(folder.path() / video.name,
          {.width = video.width, .height = video.height, .fps = video.fps, .text = {}},
          video.frames);
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted) << error.what();
  EXPECT_THAT(error.what(), HasSubstr(video.name));
  EXPECT_THAT(entries(folder), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Table, Video,
                         testing::Values(VideoCase{"a.mp4", 64, 48, 16, 9, 40},
                                         VideoCase{"odd_macroblocks.mp4", 50, 34, 24, 5, 40},
                                         VideoCase{"one.mp4", 16, 16, 1, 1, 40},
                                         VideoCase{"keys.mp4", 32, 32, 2, 13, 40},
                                         VideoCase{"a.webp", 64, 48, 16, 9, 36},
                                         VideoCase{"odd.webp", 33, 17, 30, 3, 33},
                                         VideoCase{"one.webp", 16, 16, 8, 1, 30},
                                         VideoCase{"frames", 33, 17, 24, 3, 1000}),
                         [](const auto& row) {
                           std::string name = row.param.name;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

// WebPAnimEncoder would make one frame of them.
TEST(Videos, KeepFramesThatAreEqual) {
  const TempFolder folder;
  for (const char* name : {"a.mp4", "a.webp"}) {
    const auto writer = create_video_writer(folder.path() / name,
                                            {.width = 32, .height = 32, .fps = 8, .text = {}});
    for (int i = 0; i < 4; ++i) writer->add(solid_image(32, 32, 100));
    writer->finish();
    const auto reader = open_video(folder.path() / name);
    EXPECT_EQ(reader->info().frames, 4);
    for (int i = 0; i < 4; ++i) EXPECT_GT(psnr(*reader->next(), solid_image(32, 32, 100)), 45);
  }
}

struct RefusedCase {
  const char* name;
  VideoSettings settings;
  ErrorCode code;
  const char* says;
};
class RefusedVideo : public testing::TestWithParam<RefusedCase> {};

TEST_P(RefusedVideo, IsNotBegun) {
  const TempFolder folder;
  const auto& [name, settings, code, says] = GetParam();
  const Error error = error_of([&] { create_video_writer(folder.path() / name, settings); });
  EXPECT_EQ(error.code(), code);
  EXPECT_THAT(error.what(), HasSubstr(says));
  EXPECT_THAT(entries(folder), IsEmpty());
}
INSTANTIATE_TEST_SUITE_P(
    Table, RefusedVideo,
    testing::Values(
        RefusedCase{"a.mp4",
                    {33, 32, 8, {}},
                    ErrorCode::kInvalidArgument,
                    "even sides of at least 16 and 9437184 pixels in all, not 33x32"},
        RefusedCase{"a.mp4", {32, 8, 8, {}}, ErrorCode::kInvalidArgument, "32x8"},
        RefusedCase{"a.mp4", {4096, 4096, 8, {}}, ErrorCode::kInvalidArgument, "4096x4096"},
        RefusedCase{"a.webp", {8192, 32, 8, {}}, ErrorCode::kInvalidArgument, "8192x32"},
        RefusedCase{"a.webp", {32, 32, 0, {}}, ErrorCode::kInvalidArgument, "0 frames a second"},
        RefusedCase{"a.webp", {32, 32, 8, {{"a b", ""}}}, ErrorCode::kInvalidArgument, "'a b'"},
        RefusedCase{"a.avi", {32, 32, 8, {}}, ErrorCode::kUnsupported, ".mp4, .webp"},
        RefusedCase{"no/a.mp4", {32, 32, 8, {}}, ErrorCode::kNotFound, "no/a.mp4"}));

TEST(FrameFolder, ReplacesFramesAndNothingElse) {
  const TempFolder folder;
  const fs::path path = folder.path() / "fox";
  const VideoSettings settings{.width = 32, .height = 32, .fps = 8, .text = {}};
  write(path, settings, 5);
  write(path, settings, 2);
  EXPECT_EQ(open_video(path)->info().frames, 2);
  folder.write("fox/thesis.pdf", "x");
  const Error error = error_of([&] { create_video_writer(path, settings); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.what(), HasSubstr("thesis.pdf"));
  EXPECT_THAT(error_of([&] { open_video(path); }).what(), HasSubstr("3 files, of which 2"));
}

/// A video of two frames as bytes to damage.
std::string example(const char* name) {
  const TempFolder folder;
  write(folder.path() / name, {.width = 32, .height = 32, .fps = 8, .text = kText}, 2);
  return content(folder.path() / name);
}

std::string message_of(const std::string& file) {
  try {
    const auto reader = open_video(std::as_bytes(std::span(file.data(), file.size())), "bad.mp4");
    while (reader->next()) {
    }
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("bad.mp4"));
    return error.what();
  }
  return "no error";
}

TEST(Videos, RefuseTruncationAtEveryByte) {
  for (const char* name : {"a.mp4", "a.webp"}) {
    const std::string file = example(name);
    for (std::size_t size = 0; size < file.size(); size += size < 1200 ? 1 : 37) {
      EXPECT_NE(message_of(file.substr(0, size)), "no error") << name << " " << size;
    }
  }
}

/// Bytes put after (or at, with a negative distance) the first place where a text stands.
struct Damage {
  const char* name;
  const char* text;
  std::ptrdiff_t distance;
  std::string bytes;
  const char* says;
};
class DamagedMp4 : public testing::TestWithParam<Damage> {};

TEST_P(DamagedMp4, IsRefusedByBoxAndNumber) {
  std::string file = example("a.mp4");
  const auto at = file.find(GetParam().text);
  ASSERT_NE(at, std::string::npos);
  file.replace(static_cast<std::size_t>(static_cast<std::ptrdiff_t>(at) + GetParam().distance),
               GetParam().bytes.size(), GetParam().bytes);
  EXPECT_THAT(message_of(file), HasSubstr(GetParam().says));
}

using std::string_literals::operator""s;
INSTANTIATE_TEST_SUITE_P(
    Table, DamagedMp4,
    testing::Values(
        Damage{"NoVideo", "ftyp", 0, "typo", "not a video"},
        Damage{"OtherBox", "moov", 0, "mooX", "at byte 32 a box 'mooX' where 'moov'"},
        Damage{"EditList", "mdia", 0, "edts", "box 'trak': at byte"},
        Damage{"Audio", "vide", 0, "soun", "no video"},
        Damage{"LongBox", "stts", -4, "\x7F\xFF\xFF\xFF", "box 'stbl': at byte"},
        Damage{"ShortBox", "stts", -4, "\0\0\0\x07"s, "of 7 bytes"},
        Damage{"Version", "stsz", 4, "\x01", "box 'stsz': version is 1, 0 is understood"},
        Damage{"ManyFrames", "stts", 12, "\x7F\xFF\xFF\xFF", "2147483647 frames"},
        Damage{"OtherCount", "stsz", 12, "\0\0\0\x03"s, "number of samples is 3, 2"},
        Damage{"OtherSize", "stsz", 16, "\0\0\0\x01"s, "but box 'mdat' has"},
        Damage{"OtherOffset", "stco", 12, "\0\0\0\x01"s, "from byte 1, but box 'mdat'"},
        Damage{"Colours", "nclx", 4, "\0\x09"s, "box 'colr': primaries is 9, 1"},
        Damage{"FullRange", "nclx", 10, "\x80", "full range is 128"},
        Damage{"SpsProfile", "avcC", 4 + 6 + 2 + 1, "\x7A", "profile_idc 122"},
        Damage{"LengthOf3", "avcC", 4 + 4, "\xFE", "lengths of 3 bytes"},
        Damage{"MetadataKind", "data", 4, "\0\0\0\x0D"s, "kind is 13"},
        Damage{"SampleLength", "mdat", 4, "\0\xFF\0\0"s, "a NAL unit of 16711680 bytes"},
        Damage{"SampleType", "mdat", 8, "\x67", "a NAL unit of type 7 in a sample"}),
    [](const auto& row) { return std::string(row.param.name); });

struct OtherWebp {
  const char* file;  // of make_pictures.py
  const char* says;
};
class ForeignWebp : public testing::TestWithParam<OtherWebp> {};

TEST_P(ForeignWebp, IsReadAsFarAsItIsUnderstood) {
  const auto path = fs::path(DITHER_SOURCE_DIR) / "tests/fuzz/corpus/image_fuzz" / GetParam().file;
  EXPECT_THAT(error_of([&] { open_video(path)->next(); }).what(), HasSubstr(GetParam().says));
}
INSTANTIATE_TEST_SUITE_P(Table, ForeignWebp,
                         testing::Values(OtherWebp{"webp-lossless", "no error"},
                                         OtherWebp{"webp-alpha", "or transparent"},
                                         OtherWebp{"webp-animated", "no error"},
                                         OtherWebp{"jpeg-444", "not a video"}));

TEST(Xmp, CarriesTextsAsXml) {
  EXPECT_EQ(parse_xmp(to_xmp(kText)), kText);
  EXPECT_THAT(to_xmp(kText), HasSubstr("&lt;b&gt;&#9;tab\""));
  EXPECT_THAT(parse_xmp("<x:xmpmeta/>"), IsEmpty());
}

}  // namespace
}  // namespace dither
