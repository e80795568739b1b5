#include "quant/amax_statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace dither::quant {
namespace {

TEST(AmaxStatistics, KeepsTheLargestMagnitude) {
  AmaxStatistics statistics;
  EXPECT_TRUE(statistics.empty());
  statistics.add(std::vector<float>{0, 0});
  EXPECT_EQ(statistics.amax(), 0);
  statistics.add(std::vector<float>{1.5F, -3.25F});
  statistics.add(std::vector<float>{2});
  EXPECT_EQ(statistics.amax(), 3.25F);
  EXPECT_EQ(statistics.percentile(100), 3.25F);
}

TEST(AmaxStatistics, PercentileLeavesOutliersOut) {
  AmaxStatistics statistics;
  std::vector<float> values(9999, 0.5F);
  values.push_back(1000);
  statistics.add(values);
  // 1000 sets the range to 1024, so a bin is 1/4 wide and 0.5 lies in [0.5, 0.75).
  EXPECT_EQ(statistics.percentile(99.99), 0.75F);
  EXPECT_EQ(statistics.percentile(100), 1000);
}

TEST(AmaxStatistics, RangeGrowsAsIfTheLargestHadComeFirst) {
  AmaxStatistics rising;
  AmaxStatistics falling;
  for (const float value : {0.0F, 0.5F, 3.0F, 100.0F}) rising.add(std::vector<float>{value});
  for (const float value : {100.0F, 3.0F, 0.5F, 0.0F}) falling.add(std::vector<float>{value});
  for (const double percent : {25.0, 50.0, 75.0, 100.0}) {
    EXPECT_EQ(rising.percentile(percent), falling.percentile(percent)) << percent;
  }
}

TEST(AmaxStatistics, NanIsNotForgotten) {
  AmaxStatistics statistics;
  statistics.add(std::vector<float>{1, NAN});
  statistics.add(std::vector<float>{5});
  EXPECT_TRUE(std::isnan(statistics.amax()));
  EXPECT_TRUE(std::isnan(statistics.percentile(50)));
}

}  // namespace
}  // namespace dither::quant
