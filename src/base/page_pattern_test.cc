#include "base/page_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace dither {
namespace {

using ::testing::Values;

/// Byte i is i modulo a prime, so that no smaller block repeats.
void count(std::span<std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i % 251);
}

struct RepeatCase {
  std::size_t pattern_bytes;
  std::size_t range_bytes;
};

class PagePatternRepeats : public ::testing::TestWithParam<RepeatCase> {};

TEST_P(PagePatternRepeats, CopyBehindCopy) {
  const auto& [pattern_bytes, range_bytes] = GetParam();
  const PagePattern pattern(pattern_bytes, count);
  EXPECT_GE(pattern.bytes(), pattern_bytes);
  const auto range = pattern.repeat(range_bytes);
  for (std::size_t i = 0; i < range_bytes; ++i) {
    ASSERT_EQ(range.get()[i], static_cast<std::byte>(i % pattern.bytes() % 251)) << "byte " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Table, PagePatternRepeats,
                         Values(RepeatCase{4096, 1}, RepeatCase{4096, 3 * 4096},
                                RepeatCase{1, 10'000}, RepeatCase{3 * 4096, 4 * 4096},
                                RepeatCase{1 << 20, 3 << 20}));

TEST(PagePattern, RangesOutliveIt) {
  std::shared_ptr<const std::byte> range;
  {
    const PagePattern pattern(4096, count);
    range = pattern.repeat(2 * 4096);
  }
  EXPECT_EQ(range.get()[4096 + 7], std::byte{7});
}

TEST(PagePattern, TakesTheMemoryOfOneCopy) {
  const PagePattern pattern(1 << 20, count);
  EXPECT_NO_THROW(pattern.repeat(std::size_t{1} << 34));  // 16 GiB of addresses
}

TEST(PagePattern, NothingIsNothing) { EXPECT_EQ(PagePattern(4096, count).repeat(0), nullptr); }

TEST(PagePattern, AFailingFillIsPassedOn) {
  const auto refuse = [](std::span<std::byte>) {
    throw Error(ErrorCode::kInternal, "no content today");
  };
  EXPECT_THROW(PagePattern(4096, refuse), Error);
}

}  // namespace
}  // namespace dither
