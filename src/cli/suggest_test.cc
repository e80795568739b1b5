#include "cli/suggest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace dither::cli {
namespace {

struct DistanceCase {
  const char* a;
  const char* b;
  std::size_t distance;
};
class EditDistance : public testing::TestWithParam<DistanceCase> {};

TEST_P(EditDistance, CountsEditsBothWays) {
  const auto& [a, b, distance] = GetParam();
  EXPECT_EQ(edit_distance(a, b), distance);
  EXPECT_EQ(edit_distance(b, a), distance);
}
INSTANTIATE_TEST_SUITE_P(Table, EditDistance,
                         testing::Values(DistanceCase{"", "", 0}, DistanceCase{"", "abc", 3},
                                         DistanceCase{"seed", "seed", 0},
                                         DistanceCase{"seed", "sed", 1},
                                         DistanceCase{"heigth", "height", 1},
                                         DistanceCase{"kitten", "sitting", 3}));

TEST(Nearest, OffersAnOptionThatContainsTheWord) {
  const std::vector<std::string> options = {"--layer-steps", "--num-inference-steps", "--n-steps"};
  EXPECT_EQ(nearest("--inference", options), "--num-inference-steps");
  EXPECT_EQ(nearest("--layer", options), "--layer-steps");
  EXPECT_EQ(nearest("--", options), std::nullopt);
}

TEST(Nearest, OffersAnOptionWithAPartThatIsMisspelt) {
  const std::vector<std::string> options = {"--num-inference-steps", "--transformer-path",
                                            "--component-paths.vae", "--seed"};
  EXPECT_EQ(nearest("--stpes", options), "--num-inference-steps");
  EXPECT_EQ(nearest("--infrence-steps", options), "--num-inference-steps");
  EXPECT_EQ(nearest("--tranformer", options), "--transformer-path");
  EXPECT_EQ(nearest("--steep-hill", options), std::nullopt);
}

TEST(Nearest, OffersOnlyWhatIsClose) {
  const std::vector<std::string> options = {"--width", "--height", "--seed"};
  EXPECT_EQ(nearest("--heigth", options), "--height");
  EXPECT_EQ(nearest("--frobnicate", options), std::nullopt);
  EXPECT_EQ(nearest(std::string(1000, 'x'), options), std::nullopt);
  EXPECT_EQ(did_you_mean("--sead", options), "; did you mean '--seed'?");
  EXPECT_EQ(did_you_mean("--nothing-like-it", options), "");
}

}  // namespace
}  // namespace dither::cli
