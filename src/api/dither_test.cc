#include "dither/dither.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "base/test_util.h"
#include "media/png.h"

namespace dither::api {
namespace {

using ::testing::HasSubstr;

const std::string kModel = std::string(DITHER_SOURCE_DIR) + "/models/emoji-flux";

std::string code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return "no error";
}

TEST(Api, DrawsAndSaves) {
  Pipeline pipeline = Pipeline::load({.model_path = kModel});
  int steps = 0;
  const auto images =
      pipeline.generate({.prompt = "a red apple", .num_inference_steps = 2, .seed = 5},
                        [&](const Progress& progress) {
                          EXPECT_EQ(progress.step, ++steps);
                          EXPECT_EQ(progress.steps, 2);
                          return true;
                        });
  EXPECT_EQ(steps, 2);
  ASSERT_EQ(images.size(), 1U);
  EXPECT_EQ(images[0].seed, 5U);
  EXPECT_EQ(images[0].pixels.size(), 128U * 128U * 3U);

  const TempFolder folder;
  const auto path = folder.path() / "apple.png";
  images[0].save_png(path.string());
  EXPECT_EQ(read_png(path).pixels, images[0].pixels);
  EXPECT_EQ(code_of([&] { images[0].save_png((folder.path() / "none" / "a.png").string()); }),
            "not_found");
}

TEST(Api, ErrorsCarryTheirCategory) {
  EXPECT_EQ(code_of([] { Pipeline::load({.model_path = "/nowhere"}); }), "not_found");
  EXPECT_EQ(code_of([] { Pipeline::load({.model_path = kModel, .dtype = "f8"}); }),
            "invalid_argument");
  EXPECT_EQ(code_of([] { Pipeline::load({.model_path = kModel, .device = "tpu"}); }),
            "invalid_argument");
  Pipeline pipeline = Pipeline::load({.model_path = kModel});
  EXPECT_EQ(code_of([&] { pipeline.generate({.prompt = "x", .width = 100}); }), "invalid_argument");
  EXPECT_EQ(code_of([&] { pipeline.generate({.prompt = "x", .image_paths = {"nothing.png"}}); }),
            "not_found");
  EXPECT_EQ(code_of([&] {
              pipeline.generate({.prompt = "x", .num_inference_steps = 2},
                                [](const Progress&) { return false; });
            }),
            "cancelled");
}

TEST(Api, Version) { EXPECT_THAT(version(), HasSubstr(".")); }

}  // namespace
}  // namespace dither::api
