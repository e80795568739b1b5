#include "cli/byte_progress.h"

#include <gtest/gtest.h>

namespace dither::cli {
namespace {

TEST(ByteProgress, PredictsFromTheMeanRate) {
  EXPECT_EQ(format_byte_progress(6'000'000'000, 24'000'000'000, 10'000, true),
            "[#####...............]  6.00 GB of 24.00 GB, 600.0 MB/s, 30.0 s left");
  EXPECT_EQ(format_byte_progress(0, 24, 0, false), "0 B of 24 B");
  EXPECT_EQ(format_byte_progress(0, 0, 5, true), "[####################]  0 B of 0 B");
}

}  // namespace
}  // namespace dither::cli
