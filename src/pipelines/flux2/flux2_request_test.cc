#include "pipelines/flux2/flux2_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipelines/request_test_util.h"

namespace dither {
namespace {

using ::testing::IsEmpty;
using ::testing::Values;

Flux2Limits limits(Flux2GuidanceKind guidance) {
  Flux2Limits limits;
  limits.model_name = "flux2";
  limits.guidance = guidance;
  return limits;
}

constexpr auto kDev = Flux2GuidanceKind::kEmbedded;
constexpr auto kBase = Flux2GuidanceKind::kClassifierFree;
constexpr auto kDistilled = Flux2GuidanceKind::kNone;

TEST(Flux2Request, TakesDiffusersDefaults) {
  const struct {
    Flux2GuidanceKind guidance;
    int steps;
    double guidance_scale, true_cfg_scale;
  } table[] = {{kDev, 50, 4, 1}, {kBase, 50, 4, 4}, {kDistilled, 4, 1, 1}};
  for (const auto& row : table) {
    EXPECT_EQ(check_request({.prompt = "a red apple"}, limits(row.guidance)).request,
              (ResolvedRequest{.prompt = "a red apple",
                               .negative_prompt = "",
                               .width = 1024,
                               .height = 1024,
                               .num_inference_steps = row.steps,
                               .guidance_scale = row.guidance_scale,
                               .true_cfg_scale = row.true_cfg_scale,
                               .max_sequence_length = 512}));
    EXPECT_THAT(check_request({}, limits(row.guidance)).warnings, IsEmpty());
  }
}

struct ScaleCase {
  std::optional<double> guidance_scale, true_cfg_scale;
  double resolved_guidance, resolved_cfg;
};

/// Of klein base: whichever of the two is given; 1 and less is no guidance.
TEST(Flux2Request, ClassifierFreeGuidanceHasOneScale) {
  const ScaleCase table[] = {{3, {}, 3, 3},     {{}, 2, 2, 2}, {1, {}, 1, 1},
                             {0.5, {}, 0.5, 1}, {3, 3, 3, 3},  {3, 1, 3, 3}};
  for (const ScaleCase& row : table) {
    GenerateRequest request{.prompt = "cat", .negative_prompt = "dog"};
    request.guidance_scale = row.guidance_scale;
    request.true_cfg_scale = row.true_cfg_scale;
    const ResolvedRequest resolved = check_request(request, limits(kBase)).request;
    EXPECT_EQ(resolved.guidance_scale, row.resolved_guidance);
    EXPECT_EQ(resolved.true_cfg_scale, row.resolved_cfg);
    EXPECT_EQ(resolved.negative_prompt, row.resolved_cfg == 1 ? "" : "dog");
    // What a picture carries draws the same picture again.
    GenerateRequest again{.prompt = "cat", .negative_prompt = resolved.negative_prompt};
    again.guidance_scale = resolved.guidance_scale;
    again.true_cfg_scale = resolved.true_cfg_scale;
    EXPECT_EQ(check_request(again, limits(kBase)).request, resolved);
  }
}

class Flux2BadRequest : public ::testing::TestWithParam<RequestCase> {};

TEST_P(Flux2BadRequest, NamesTheOptionAndWhatWouldDo) { expect_refused(GetParam(), limits(kDev)); }

INSTANTIATE_TEST_SUITE_P(
    Table, Flux2BadRequest,
    Values(RequestCase{[](auto& r) { r.width = 1000; },
                       "width 1000: must be a multiple of 16; the nearest are 992 and 1008"},
           RequestCase{[](auto& r) { r.max_sequence_length = 513; },
                       "max-sequence-length 513: must be 1 to 512"},
           RequestCase{[](auto& r) { r.num_inference_steps = 1001; },
                       "num-inference-steps 1001: must be 1 to 1000"},
           RequestCase{[](auto& r) { r.guidance_scale = -1; },
                       "guidance-scale -1: must be a finite number that is not negative"},
           RequestCase{[](auto& r) { r.prompt = "\xFF"; }, "prompt: not UTF-8: byte 0 is 0xff"}));

struct Warned {
  Flux2GuidanceKind guidance;
  RequestCase row;
};

void PrintTo(const Warned& warned, std::ostream* out) { PrintTo(warned.row, out); }

class Flux2Warnings : public ::testing::TestWithParam<Warned> {};

TEST_P(Flux2Warnings, SayWhatHasNoEffect) {
  expect_warned(GetParam().row, limits(GetParam().guidance));
}

INSTANTIATE_TEST_SUITE_P(
    Table, Flux2Warnings,
    Values(Warned{kDistilled,
                  {[](auto& r) { r.guidance_scale = 4; },
                   "flux2 is distilled: guidance-scale 4 has no effect"}},
           Warned{kDev, {[](auto& r) { r.true_cfg_scale = 4; }, "true-cfg-scale 4 has no effect"}},
           Warned{kDev,
                  {[](auto& r) { r.negative_prompt = "blurry"; },
                   "flux2 has no classifier-free guidance: the negative prompt"}},
           Warned{kBase,
                  {[](auto& r) {
                     r.guidance_scale = 3;
                     r.true_cfg_scale = 5;
                   },
                   "true-cfg-scale 5 has no effect"}},
           Warned{kBase,
                  {[](auto& r) {
                     r.guidance_scale = 1;
                     r.negative_prompt = "blurry";
                   },
                   "no effect without a guidance-scale above 1"}}));

}  // namespace
}  // namespace dither
