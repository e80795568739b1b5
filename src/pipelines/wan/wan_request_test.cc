#include "pipelines/wan/wan_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "pipelines/flux2/flux2_request.h"
#include "pipelines/request_test_util.h"

namespace dither {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Values;

/// Wan2.2-T2V-A14B.
WanLimits experts() {
  WanLimits limits;
  limits.model_name = "wan";
  limits.two_experts = true;
  limits.suggestions.num_inference_steps = 40;
  limits.suggestions.guidance_scale = 4;
  limits.suggestions.guidance_scale_2 = 3;
  limits.suggestions.flow_shift = 12;
  return limits;
}

WanLimits one_transformer() {
  WanLimits limits;
  limits.model_name = "wan";
  return limits;
}

TEST(WanRequest, TakesTheAuthorsDefaults) {
  ResolvedRequest expected;
  expected.prompt = "a fox";
  expected.width = 832;
  expected.height = 480;
  expected.num_inference_steps = 40;
  expected.guidance_scale = 4;
  expected.max_sequence_length = 512;
  expected.video =
      VideoParameters{.num_frames = 81, .fps = 16, .guidance_scale_2 = 3, .flow_shift = 12};
  EXPECT_EQ(check_request({.prompt = "a fox"}, experts()).request, expected);
  EXPECT_THAT(check_request({.prompt = "a fox"}, experts()).warnings, IsEmpty());
}

TEST(WanRequest, TakesTheFoldersDefaultsFirst) {
  WanLimits limits = experts();
  limits.defaults.num_frames = 9;
  limits.defaults.fps = 8;
  limits.defaults.guidance_scale = 2;
  limits.defaults.flow_shift = 3;
  const VideoParameters video = check_request({}, limits).request.video.value();
  EXPECT_EQ(video,
            (VideoParameters{.num_frames = 9, .fps = 8, .guidance_scale_2 = 2, .flow_shift = 3}));
  limits.defaults.guidance_scale_2 = 1.5;
  EXPECT_EQ(check_request({}, limits).request.video->guidance_scale_2, 1.5);
}

struct ScaleCase {
  std::optional<double> scale, scale_2;
  double resolved, resolved_2;
  const char* negative;  ///< the resolved one, of "dog"
};

TEST(WanRequest, EveryExpertHasItsScale) {
  const ScaleCase table[] = {{{}, {}, 4, 3, "dog"}, {5, {}, 5, 5, "dog"}, {{}, 5, 4, 5, "dog"},
                             {1, 1, 1, 1, ""},      {1, 2, 1, 2, "dog"},  {0, {}, 0, 0, ""}};
  for (const ScaleCase& row : table) {
    GenerateRequest request{.prompt = "cat", .negative_prompt = "dog"};
    request.guidance_scale = row.scale;
    request.guidance_scale_2 = row.scale_2;
    const ResolvedRequest resolved = check_request(request, experts()).request;
    EXPECT_EQ(resolved.guidance_scale, row.resolved);
    EXPECT_EQ(resolved.video->guidance_scale_2, row.resolved_2);
    EXPECT_EQ(resolved.negative_prompt, row.negative);
  }
  EXPECT_EQ(check_request({}, one_transformer()).request.video->guidance_scale_2, std::nullopt);
}

class WanBadRequest : public ::testing::TestWithParam<RequestCase> {};

TEST_P(WanBadRequest, NamesTheOptionAndWhatWouldDo) { expect_refused(GetParam(), experts()); }

INSTANTIATE_TEST_SUITE_P(
    Table, WanBadRequest,
    Values(RequestCase{[](auto& r) { r.num_frames = 80; },
                       "num-frames 80: must be 4 k + 1; the nearest are 77 and 81"},
           RequestCase{[](auto& r) { r.num_frames = 0; }, "num-frames 0: must be 1 to 1025"},
           RequestCase{[](auto& r) { r.fps = 0; }, "fps 0: must be 1 to 240"},
           RequestCase{[](auto& r) { r.height = 488; },
                       "height 488: must be a multiple of 16; the nearest are 480 and 496"},
           RequestCase{[](auto& r) { r.flow_shift = 0; },
                       "flow-shift 0: must be a finite number above 0"},
           RequestCase{[](auto& r) { r.flow_shift = std::numeric_limits<double>::infinity(); },
                       "flow-shift inf: must be a finite number above 0"},
           RequestCase{[](auto& r) { r.guidance_scale_2 = -1; },
                       "guidance-scale-2 -1: must be a finite number that is not negative"},
           RequestCase{[](auto& r) { r.max_sequence_length = 513; },
                       "max-sequence-length 513: must be 1 to 512"},
           RequestCase{[](auto& r) { r.references.push_back({.path = "a.png", .image = {}}); },
                       "image-path 'a.png': wan makes videos from text alone; Wan2.2-I2V-A14B and "
                       "Wan2.2-TI2V-5B take a picture"}));

WanLimits of_pictures(PictureInput picture) {
  WanLimits limits = experts();
  limits.picture = picture;
  return limits;
}

TEST(WanRequest, BeginsWithOnePicture) {
  GenerateRequest request{.prompt = "a fox"};
  EXPECT_TRUE(
      check_request(request, of_pictures(PictureInput::kFirstFrame)).request.image_paths.empty());
  EXPECT_STREQ(
      error_of([&] { check_request(request, of_pictures(PictureInput::kChannels)); }).what(),
      "image-path: missing, wan makes videos from a picture, their first frame");
  request.references.push_back({.path = "a.png", .image = solid_image(83, 48, 0)});
  for (const auto picture : {PictureInput::kChannels, PictureInput::kFirstFrame}) {
    const CheckedRequest checked = check_request(request, of_pictures(picture));
    EXPECT_THAT(checked.request.image_paths, ElementsAre("a.png"));
    EXPECT_THAT(checked.warnings, IsEmpty());
  }
  request.references.push_back(request.references.front());
  for (const auto picture : {PictureInput::kChannels, PictureInput::kFirstFrame}) {
    EXPECT_STREQ(error_of([&] { check_request(request, of_pictures(picture)); }).what(),
                 "image-path: 2 pictures, wan takes one, the video's first frame");
  }
}

TEST(WanRequest, HasThePicturesShapeWhereNoneIsGiven) {
  const auto size = [](ImageSize picture, std::optional<int> width = {}) {
    GenerateRequest request{.prompt = "a fox", .width = width};
    request.references.push_back(
        {.path = "a.png", .image = solid_image(picture.width, picture.height, 0)});
    const CheckedRequest checked = check_request(request, of_pictures(PictureInput::kChannels));
    return std::pair(checked.request.width, checked.request.height);
  };
  // Of 832 x 480 = 399360 pixels.
  EXPECT_EQ(size({1664, 960}), std::pair(832, 480));
  EXPECT_EQ(size({50, 50}), std::pair(624, 624));      // sqrt(399360) = 631.9
  EXPECT_EQ(size({3000, 4000}), std::pair(544, 720));  // 547.3 and 729.7
  EXPECT_EQ(size({1, 4000}), std::pair(16, 8192));     // 10.0 and 39968.0
  EXPECT_EQ(size({3000, 4000}, 640), std::pair(640, 480));
}

TEST(WanRequest, SaysWhatHappensToThePicture) {
  GenerateRequest request{.prompt = "a fox", .width = 832, .height = 480};
  request.references.push_back({.path = "a.png", .image = solid_image(50, 48, 0)});
  request.reference_limit = ReferenceLimit::kBfl;
  EXPECT_THAT(check_request(request, of_pictures(PictureInput::kChannels)).warnings,
              ElementsAre("image-path 'a.png': 50x48 is stretched to the video's 832x480",
                          "reference-limit bfl has no effect: a picture takes the video's size"));
}

TEST(WanRequest, OneTransformerHasOneScale) {
  GenerateRequest request;
  request.guidance_scale_2 = 3;
  EXPECT_STREQ(error_of([&] { check_request(request, one_transformer()); }).what(),
               "guidance-scale-2 3: wan has one transformer, whose scale is guidance-scale");
}

TEST(WanRequest, SizesFitTheAutoencoder) {
  WanLimits limits = one_transformer();
  limits.size_multiple = 32;
  EXPECT_THAT(error_of([&] { check_request({.prompt = "", .height = 720}, limits); }).what(),
              HasSubstr("height 720: must be a multiple of 32; the nearest are 704 and 736"));
}

TEST(WanRequest, SaysWhatHasNoEffect) {
  GenerateRequest request{.prompt = "cat", .negative_prompt = "dog"};
  request.guidance_scale = 1;
  EXPECT_THAT(check_request(request, experts()).warnings,
              ElementsAre(HasSubstr("no effect without a guidance-scale above 1")));
  request.guidance_scale = 2;
  request.true_cfg_scale = 4;
  EXPECT_THAT(check_request(request, experts()).warnings,
              ElementsAre(HasSubstr("true-cfg-scale 4 has no effect")));
}

TEST(WanRequest, ModelsOfPicturesRefuseVideos) {
  Flux2Limits flux;
  flux.model_name = "flux2";
  const RequestCase table[] = {
      {[](auto& r) { r.num_frames = 81; }, "num-frames 81: flux2 makes pictures, not videos"},
      {[](auto& r) { r.fps = 16; }, "fps 16: flux2 makes pictures, not videos"},
      {[](auto& r) { r.guidance_scale_2 = 3; },
       "guidance-scale-2 3: flux2 makes pictures, not videos"},
      {[](auto& r) { r.flow_shift = 12; }, "flow-shift 12: flux2 makes pictures, not videos"}};
  for (const RequestCase& row : table) expect_refused(row, flux);
}

}  // namespace
}  // namespace dither
