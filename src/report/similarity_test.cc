#include "report/similarity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Tensor tensor(const Shape& shape, const std::vector<float>& values) {
  Tensor result = Tensor::host(shape, DType::kF32);
  std::ranges::copy(values, result.data<float>());
  return result;
}

struct Case {
  const char* name;
  std::vector<float> reference;
  std::vector<float> candidate;
  Similarity expected;
};

class CompareValues : public ::testing::TestWithParam<Case> {};

TEST_P(CompareValues, MatchesValuesByHand) {
  const Similarity got = compare_values(GetParam().reference, GetParam().candidate);
  const Similarity& expected = GetParam().expected;
  EXPECT_DOUBLE_EQ(got.cosine, expected.cosine);
  EXPECT_DOUBLE_EQ(got.mae, expected.mae);
  EXPECT_DOUBLE_EQ(got.mse, expected.mse);
  EXPECT_DOUBLE_EQ(got.rmse, expected.rmse);
  EXPECT_DOUBLE_EQ(got.max_abs, expected.max_abs);
  EXPECT_DOUBLE_EQ(got.l2, expected.l2);
}

TEST(RelativeL2, IsOfTheReferencesNorm) {
  const std::vector<float> zero = {0, 0};
  const std::vector<float> r = {3, 4};
  const std::vector<float> c = {3, 5};
  EXPECT_DOUBLE_EQ(compare_values(r, c).relative_l2, 0.2);
  EXPECT_EQ(compare_values(zero, zero).relative_l2, 0);
  EXPECT_EQ(compare_values(zero, r).relative_l2, kInfinity);
}

INSTANTIATE_TEST_SUITE_P(
    Table, CompareValues,
    ::testing::Values(Case{"Same", {3, 4}, {3, 4}, {1, 0, 0, 0, 0, 0}},
                      // 3*4 + 4*3 = 24, norms 5 and 5; differences 1 and -1
                      Case{"Swapped", {3, 4}, {4, 3}, {0.96, 1, 1, 1, 1, std::sqrt(2.0)}},
                      Case{"Opposite", {1, 0}, {-1, 0}, {-1, 1, 2, std::sqrt(2.0), 2, 2}},
                      // differences 0, 3, 4, 0: mse 25/4
                      Case{"Orthogonal",
                           {5, 0, 0, 0},
                           {5, 3, -4, 0},
                           {25 / (5 * std::sqrt(50.0)), 1.75, 6.25, 2.5, 4, 5}},
                      Case{"BothZero", {0, 0}, {0, 0}, {1, 0, 0, 0, 0, 0}},
                      Case{"OneZero", {0, 0}, {3, 4}, {0, 3.5, 12.5, std::sqrt(12.5), 4, 5}}),
    [](const auto& test) { return test.param.name; });

TEST(CompareValues, NanIsNotHidden) {
  const Similarity got = compare_values(std::vector<float>{1, 2}, std::vector<float>{1, NAN});
  EXPECT_TRUE(std::isnan(got.cosine));
  EXPECT_TRUE(std::isnan(got.max_abs));
}

TEST(CompareSteps, StepIsTheSecondAxis) {
  // [2, 2, 1]: step 0 is elements 0 and 2, step 1 elements 1 and 3.
  const LatentSteps reference{tensor({2, 2, 1}, {3, 1, 4, 0}), tensor({2}, {900, 111})};
  const LatentSteps candidate{tensor({2, 2, 1}, {3, 0, 4, 1}), {}};
  const auto steps = compare_steps(reference, candidate);
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_DOUBLE_EQ(steps[0].similarity.cosine, 1);
  EXPECT_DOUBLE_EQ(steps[0].similarity.l2, 0);
  EXPECT_DOUBLE_EQ(steps[1].similarity.cosine, 0);
  EXPECT_EQ(steps[1].reference_timestep, 111);
  EXPECT_FALSE(steps[1].candidate_timestep);
}

TEST(CompareSteps, ShapesMustAgree) {
  const LatentSteps a{tensor({1, 2, 1}, {1, 2}), {}};
  const LatentSteps b{tensor({1, 1, 2}, {1, 2}), {}};
  EXPECT_THAT(error_of([&] { compare_steps(a, b); }).what(),
              AllOf(HasSubstr("[1, 2, 1]"), HasSubstr("[1, 1, 2]")));
}

TEST(ComparePictures, PsnrByHand) {
  const Image black = solid_image(2, 3, 0);
  EXPECT_EQ(compare_pictures(black, black).psnr_db, kInfinity);
  EXPECT_DOUBLE_EQ(compare_pictures(black, solid_image(2, 3, 255)).psnr_db, 0);
  const PictureSimilarity ten = compare_pictures(black, solid_image(2, 3, 10));
  EXPECT_DOUBLE_EQ(ten.pixels.mae, 10);
  EXPECT_DOUBLE_EQ(ten.psnr_db, 20 * std::log10(25.5));  // 20 log10(255 / 10)
  EXPECT_THAT(error_of([&] { compare_pictures(black, solid_image(3, 2, 0)); }).what(),
              AllOf(HasSubstr("2 x 3"), HasSubstr("3 x 2")));
}

TEST(FrameSimilarities, AllFramesAreOnePicture) {
  FrameSimilarities frames;
  EXPECT_EQ(error_of([&] { frames.all(); }).code(), ErrorCode::kInvalidArgument);
  frames.add(solid_image(2, 1, 10), solid_image(2, 1, 13));
  frames.add(solid_image(2, 1, 200), solid_image(2, 1, 199));
  Image reference = solid_image(2, 2, 10);
  Image candidate = solid_image(2, 2, 13);
  std::fill_n(reference.row(1), 6, std::uint8_t{200});
  std::fill_n(candidate.row(1), 6, std::uint8_t{199});
  const PictureSimilarity all = compare_pictures(reference, candidate);
  EXPECT_EQ(frames.frames().size(), 2U);
  EXPECT_EQ(frames.frames().back().pixels.mae, 1);
  EXPECT_EQ(frames.all().pixels.cosine, all.pixels.cosine);
  EXPECT_EQ(frames.all().pixels.max_abs, 3);
  EXPECT_EQ(frames.all().psnr_db, all.psnr_db);
}

TEST(AmplifiedDifference, SaturatesAndForgetsTheSign) {
  const Image a = solid_image(1, 1, 100);
  EXPECT_EQ(amplified_difference(a, solid_image(1, 1, 97), 8).pixels[0], 24);
  EXPECT_EQ(amplified_difference(a, solid_image(1, 1, 103), 8).pixels[0], 24);
  EXPECT_EQ(amplified_difference(a, solid_image(1, 1, 0), 8).pixels[0], 255);
}

}  // namespace
}  // namespace dither
