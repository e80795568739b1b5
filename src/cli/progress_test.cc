#include "cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dither::cli {
namespace {

TEST(FormatDuration, UsesTheUnitThatReadsBest) {
  EXPECT_EQ(format_duration(0.4), "0 ms");
  EXPECT_EQ(format_duration(950), "950 ms");
  EXPECT_EQ(format_duration(2540), "2.5 s");
  EXPECT_EQ(format_duration(200'000), "3 min 20 s");
  EXPECT_EQ(format_duration(7'500'000), "2 h 05 min");
}

TEST(FormatProgress, CountsTheStepsOfAllPictures) {
  const Progress one{.image = 0, .images = 1, .step = 8, .steps = 20, .step_ms = 102};
  EXPECT_EQ(format_progress(one, 100, true),
            "[########............]   8/20  102 ms/step, 1.2 s left");
  const Progress second{.image = 1, .images = 3, .step = 20, .steps = 20, .step_ms = 100};
  EXPECT_EQ(format_progress(second, 100, false), "2/3 step 20/20  100 ms/step, 2.0 s left");
}

}  // namespace
}  // namespace dither::cli
