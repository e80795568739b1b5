#include "pipelines/flux1/flux1_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "pipelines/request_test_util.h"

namespace dither {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Values;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Flux1Limits emoji_limits() {
  Flux1Limits limits;
  limits.model_name = "emoji-flux";
  limits.defaults = {.width = 128,
                     .height = 128,
                     .num_inference_steps = 20,
                     .guidance_scale = 3.5,
                     .max_sequence_length = 64,
                     .sizes = {{128, 128}},
                     .example_prompts = {}};
  return limits;
}

TEST(Flux1Request, TakesTheModelsDefaults) {
  const auto [request, warnings] = check_request({.prompt = "a red apple"}, emoji_limits());
  EXPECT_EQ(request, (ResolvedRequest{.prompt = "a red apple",
                                      .negative_prompt = "",
                                      .width = 128,
                                      .height = 128,
                                      .num_inference_steps = 20,
                                      .guidance_scale = 3.5,
                                      .true_cfg_scale = 1,
                                      .max_sequence_length = 64}));
  EXPECT_THAT(warnings, IsEmpty());
}

TEST(Flux1Request, TakesDiffusersDefaultsWhereTheModelHasNone) {
  Flux1Limits dev;
  EXPECT_EQ(check_request({}, dev).request.num_inference_steps, 28);
  EXPECT_EQ(check_request({}, dev).request.max_sequence_length, 512);
  EXPECT_EQ(check_request({}, dev).request.width, 1024);
  Flux1Limits schnell;
  schnell.guidance_embeds = false;
  EXPECT_EQ(check_request({}, schnell).request.num_inference_steps, 4);
  EXPECT_EQ(check_request({}, schnell).request.max_sequence_length, 256);
}

class Flux1BadRequest : public ::testing::TestWithParam<RequestCase> {};

TEST_P(Flux1BadRequest, NamesTheOptionAndWhatWouldDo) {
  expect_refused(GetParam(), emoji_limits());
}

INSTANTIATE_TEST_SUITE_P(
    Table, Flux1BadRequest,
    Values(RequestCase{[](auto& r) { r.width = 130; },
                       "width 130: must be a multiple of 16; the nearest are 128 and 144"},
           RequestCase{[](auto& r) { r.height = 8191; },
                       "height 8191: must be a multiple of 16; the nearest are 8176 and 8192"},
           RequestCase{[](auto& r) { r.width = r.height = 100; },
                       "width 100: must be a multiple of 16; the nearest are 96 and 112; "
                       "height 100: must be a multiple of 16; the nearest are 96 and 112"},
           RequestCase{[](auto& r) { r.width = 15; },
                       "width 15: must be 16 to 8192, a multiple of 16"},
           RequestCase{[](auto& r) { r.height = -128; },
                       "height -128: must be 16 to 8192, a multiple of 16"},
           RequestCase{[](auto& r) { r.width = 8208; },
                       "width 8208: must be 16 to 8192, a multiple of 16"},
           RequestCase{[](auto& r) { r.num_inference_steps = 0; },
                       "num-inference-steps 0: must be 1 to 1000"},
           RequestCase{[](auto& r) { r.num_inference_steps = 1'000'000; },
                       "num-inference-steps 1000000: must be 1 to 1000"},
           RequestCase{[](auto& r) { r.max_sequence_length = 513; },
                       "max-sequence-length 513: must be 1 to 512"},
           RequestCase{[](auto& r) { r.num_outputs_per_prompt = 0; },
                       "num-outputs-per-prompt 0: must be 1 to 1024"},
           RequestCase{[](auto& r) { r.guidance_scale = kInfinity; },
                       "guidance-scale inf: must be a finite number that is not negative"},
           RequestCase{[](auto& r) { r.true_cfg_scale = -1; },
                       "true-cfg-scale -1: must be a finite number that is not negative"},
           RequestCase{[](auto& r) { r.prompt.assign(1 << 20, 'a'); },
                       "prompt: 1048576 bytes, at most 65536 are accepted"},
           RequestCase{[](auto& r) { r.prompt = "caf\xE9"; }, "prompt: not UTF-8: byte 3 is 0xe9"},
           RequestCase{[](auto& r) { r.negative_prompt = "\xFF"; },
                       "negative prompt: not UTF-8: byte 0 is 0xff"},
           RequestCase{[](auto& r) {
                         r.seed = std::numeric_limits<std::uint64_t>::max();
                         r.num_outputs_per_prompt = 2;
                       },
                       "seed 18446744073709551615: 2 outputs use seeds beyond 2^64 - 1"}));

class Flux1Warnings : public ::testing::TestWithParam<RequestCase> {};

TEST_P(Flux1Warnings, SayWhatHasNoEffectOrCannotWork) { expect_warned(GetParam(), emoji_limits()); }

INSTANTIATE_TEST_SUITE_P(
    Table, Flux1Warnings,
    Values(
        RequestCase{[](auto& r) { r.width = 256; }, "emoji-flux cannot draw 256x128, only 128x128"},
        RequestCase{[](auto& r) { r.true_cfg_scale = 4; },
                    "true-cfg-scale 4 has no effect without a negative prompt"},
        RequestCase{[](auto& r) { r.negative_prompt = "blurry"; },
                    "the negative prompt has no effect"},
        RequestCase{[](auto& r) { r.reference_limit = ReferenceLimit::kBfl; },
                    "reference-limit bfl has no effect without an image-path"},
        RequestCase{[](auto& r) { r.seed = (std::uint64_t{1} << 32) + 7; }, "so this is seed 7"}));

TEST(Flux1Request, SchnellIgnoresGuidance) {
  Flux1Limits schnell;
  schnell.model_name = "schnell";
  schnell.guidance_embeds = false;
  EXPECT_THAT(check_request({.prompt = "", .guidance_scale = 2}, schnell).warnings,
              ElementsAre(HasSubstr("guidance-scale 2 has no effect")));
  EXPECT_THAT(check_request({}, schnell).warnings, IsEmpty());
}

TEST(Flux1Request, TrueCfgNeedsPromptAndScale) {
  GenerateRequest request{.prompt = "cat", .negative_prompt = "dog"};
  EXPECT_EQ(check_request(request, emoji_limits()).request.true_cfg_scale, 1);
  EXPECT_EQ(check_request(request, emoji_limits()).request.negative_prompt, "");
  request.true_cfg_scale = 2.5;
  EXPECT_EQ(check_request(request, emoji_limits()).request.true_cfg_scale, 2.5);
  EXPECT_EQ(check_request(request, emoji_limits()).request.negative_prompt, "dog");
}

}  // namespace
}  // namespace dither
