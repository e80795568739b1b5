#include "ops/turn_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace dither::ops {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(TurnLayout, TurnsLieInTheSameMemory) {
  TurnLayout layout;
  EXPECT_EQ(layout.add(0, 10), 0U);
  EXPECT_EQ(layout.add(1, 4), 1U);
  EXPECT_EQ(layout.add(0, 5), 2U);
  EXPECT_EQ(layout.add(1, 30), 3U);
  EXPECT_EQ(layout.offset(0), 0U);
  EXPECT_EQ(layout.offset(2), 10U);
  EXPECT_EQ(layout.offset(1), 0U);
  EXPECT_EQ(layout.offset(3), 4U);
  EXPECT_EQ(layout.bytes(), 34U);
  EXPECT_THAT(layout.parts_of(1), ElementsAre(1, 3));
}

TEST(TurnLayout, PartsComeOnce) {
  TurnLayout layout;
  for (const int turn : {0, 0, 1, 1}) layout.add(turn, 8);
  EXPECT_THAT(layout.come(0), ElementsAre(0, 1));
  EXPECT_THAT(layout.come(0), IsEmpty());
  EXPECT_THAT(layout.come(1), ElementsAre(2, 3));
  EXPECT_THAT(layout.come(0), ElementsAre(0, 1));
  layout.leave();
  EXPECT_THAT(layout.come(0), ElementsAre(0, 1));
}

TEST(TurnLayout, TheNextTurnComesAsThisOneIsUsedForTheLastTime) {
  TurnLayout layout;
  for (const int turn : {0, 0, 0, 1, 1, 1}) layout.add(turn, 8);
  layout.come(0);
  EXPECT_THAT(layout.used(0), IsEmpty());  // nobody knows that it is the last time
  layout.expect_last_uses(2);
  EXPECT_THAT(layout.used(0), IsEmpty());
  EXPECT_THAT(layout.used(1), IsEmpty());
  EXPECT_THAT(layout.used(0), ElementsAre(3));
  EXPECT_THAT(layout.used(1), ElementsAre(4));
  EXPECT_THAT(layout.come(1), ElementsAre(5));
  EXPECT_THAT(layout.used(3), IsEmpty());
}

TEST(TurnLayout, NothingFollowsTheLastTurn) {
  TurnLayout layout;
  layout.add(0, 8);
  layout.come(0);
  layout.expect_last_uses(1);
  EXPECT_THAT(layout.used(0), IsEmpty());
  EXPECT_THAT(layout.come(0), ElementsAre(0));  // it may have been written over
}

/// What a device's memory holds, unit by unit, when every copy is made as soon as it is allowed.
class Memory {
 public:
  explicit Memory(const TurnLayout& layout) : layout_(layout), holds_(layout.bytes(), kNothing) {}

  void send(const std::vector<std::size_t>& parts) {
    for (const std::size_t part : parts) {
      std::fill_n(holds_.begin() + static_cast<std::ptrdiff_t>(layout_.offset(part)),
                  layout_.bytes(part), part);
    }
  }
  bool holds(std::size_t part) const {
    const auto begin = holds_.begin() + static_cast<std::ptrdiff_t>(layout_.offset(part));
    return std::all_of(begin, begin + static_cast<std::ptrdiff_t>(layout_.bytes(part)),
                       [&](std::size_t held) { return held == part; });
  }

 private:
  static constexpr std::size_t kNothing = ~std::size_t{0};

  const TurnLayout& layout_;
  std::vector<std::size_t> holds_;
};

struct Sizes {
  std::vector<std::size_t> first;  ///< of the parts of the first model; the last is used by nobody
  std::vector<std::size_t> second;
};

class TurnLayoutSizes : public testing::TestWithParam<Sizes> {};

INSTANTIATE_TEST_SUITE_P(Table, TurnLayoutSizes,
                         testing::Values(Sizes{{8, 8, 8, 5}, {8, 8, 8, 5}},
                                         Sizes{{8, 8, 8, 5}, {4, 4, 4, 3}},
                                         Sizes{{4, 4, 4, 3}, {8, 8, 8, 5}},
                                         Sizes{{16, 8, 8, 16, 1}, {8, 8, 8, 8, 2}},
                                         Sizes{{3, 20, 1}, {7, 1, 5, 9, 2}},
                                         Sizes{{0, 4, 0}, {0, 3, 2}}, Sizes{{1}, {9, 9}}));

// Whatever the sizes: nothing is written over before its last use, and all is there when its turn
// comes.
TEST_P(TurnLayoutSizes, NothingIsLostEarly) {
  TurnLayout layout;
  for (const std::size_t bytes : GetParam().first) layout.add(0, bytes);
  for (const std::size_t bytes : GetParam().second) layout.add(1, bytes);
  const std::size_t used = GetParam().first.size() - 1;
  Memory memory(layout);
  for (const int uses : {1, 2, 3}) {
    memory.send(layout.come(0));
    EXPECT_TRUE(std::ranges::all_of(layout.parts_of(0), [&](auto i) { return memory.holds(i); }));
    layout.expect_last_uses(uses);
    for (int use = 0; use < uses; ++use) {
      for (std::size_t part = 0; part < used; ++part) {
        EXPECT_TRUE(memory.holds(part));
        memory.send(layout.used(part));
      }
    }
    EXPECT_TRUE(memory.holds(used));  // nobody said that it is not needed any more
    memory.send(layout.come(1));
    EXPECT_TRUE(std::ranges::all_of(layout.parts_of(1), [&](auto i) { return memory.holds(i); }));
    if (uses == 2) layout.leave();
  }
}

}  // namespace
}  // namespace dither::ops
