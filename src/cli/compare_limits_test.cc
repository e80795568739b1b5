#include "cli/compare_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/test_util.h"

namespace dither::cli {
namespace {

using ::testing::ThrowsMessage;

Comparison with(double cosine, double psnr) {
  Comparison comparison;
  comparison.steps.resize(1);
  comparison.steps.front().similarity.cosine = cosine;
  comparison.frames.push_back({{}, psnr});
  comparison.all_frames = comparison.frames.front();
  return comparison;
}

TEST(ParseLimit, TakesTwoMetrics) {
  EXPECT_EQ(parse_limit("cosine=0.99").at_least, 0.99);
  EXPECT_EQ(parse_limit("psnr=30").metric, "psnr");
  for (const char* wrong : {"", "cosine", "cosine=", "cosine=high", "mae=1", "=1", "psnr=1dB"}) {
    EXPECT_EQ(error_of([&] { parse_limit(wrong); }).code(), ErrorCode::kInvalidArgument) << wrong;
  }
}

TEST(CheckLimits, NamesWhatIsMissed) {
  EXPECT_NO_THROW(check_limits(with(0.99, 30), {{"cosine", 0.99}, {"psnr", 30}}));
  EXPECT_THAT([] { check_limits(with(0.98, 20), {{"cosine", 0.99}, {"psnr", 30}}); },
              ThrowsMessage<LimitMissed>("cosine is 0.98, below 0.99; psnr is 20, below 30"));
}

TEST(CheckLimits, NanMissesEveryLimit) {
  EXPECT_THROW(check_limits(with(NAN, 20), {{"cosine", -1}}), LimitMissed);
}

}  // namespace
}  // namespace dither::cli
