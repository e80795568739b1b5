#include "ops/memory_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace dither::ops {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

TEST(MemoryUses, AreThoseThatEnded) {
  MemoryUses uses;
  const std::size_t first = uses.take(10);
  uses.take(20);  // kept
  const std::size_t last = uses.take(30);
  uses.give_back(last);
  uses.give_back(first);
  const auto finished = uses.finished();
  ASSERT_EQ(finished.size(), 2);
  EXPECT_EQ(finished[0].bytes, 10);
  EXPECT_EQ(finished[1].bytes, 30);
  EXPECT_LT(finished[0].begin, finished[1].begin);
  EXPECT_LT(finished[1].end, finished[0].end);
}

TEST(MemoryLayout, BlocksShareWhatTheyDoNotUseTogether) {
  const MemoryLayout layout = lay_out({{.bytes = 4, .begin = 0, .end = 3},
                                       {.bytes = 8, .begin = 1, .end = 5},
                                       {.bytes = 3, .begin = 4, .end = 6},
                                       {.bytes = 1, .begin = 2, .end = 7}});
  EXPECT_THAT(layout.offsets, ElementsAre(8, 0, 8, 12));
  EXPECT_EQ(layout.bytes, 13);
}

TEST(MemoryLayout, OfNothingIsNothing) { EXPECT_EQ(lay_out({}).bytes, 0); }

// Any work: no two blocks in use together overlap, and one that comes again gets the same places.
TEST(MemoryLayout, HoldsForAnyWork) {
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same every time
  for (int round = 0; round < 50; ++round) {
    MemoryUses uses;
    std::vector<std::pair<bool, std::size_t>> work;  // takes block, gives block back
    std::vector<std::size_t> open;
    std::vector<std::size_t> bytes;
    while (bytes.size() < 60 || !open.empty()) {
      if (bytes.size() < 60 && (open.size() < 3 || random() % 2 == 0)) {
        bytes.push_back(1 + random() % 40);
        open.push_back(uses.take(bytes.back()));
        work.emplace_back(true, open.back());
      } else {
        const std::size_t i = random() % open.size();
        uses.give_back(open[i]);
        work.emplace_back(false, open[i]);
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
    LaidOutMemory memory(lay_out(uses.finished()));
    std::vector<std::size_t> places(bytes.size());
    std::vector<std::size_t> in_use;
    for (const auto& [takes, block] : work) {
      if (!takes) {
        memory.give_back(places[block]);
        std::erase(in_use, block);
        continue;
      }
      const auto place = memory.take(bytes[block]);
      ASSERT_TRUE(place);
      EXPECT_LE(*place + bytes[block], memory.bytes());
      for (const std::size_t other : in_use) {
        EXPECT_TRUE(*place + bytes[block] <= places[other] ||
                    places[other] + bytes[other] <= *place);
      }
      places[block] = *place;
      in_use.push_back(block);
    }
  }
}

TEST(LaidOutMemory, KnowsWhatItWasNotMadeFor) {
  LaidOutMemory memory(lay_out({{.bytes = 4, .begin = 0, .end = 2},
                                {.bytes = 4, .begin = 3, .end = 5},
                                {.bytes = 2, .begin = 4, .end = 6}}));
  EXPECT_EQ(memory.take(5), std::nullopt);
  EXPECT_THAT(memory.take(4), Optional(0));
  EXPECT_EQ(memory.take(4), std::nullopt);  // whose place the first block still has
  memory.give_back(0);
  EXPECT_THAT(memory.take(4), Optional(0));
  EXPECT_THAT(memory.take(2), Optional(4));
  EXPECT_EQ(memory.take(4), std::nullopt);
}

}  // namespace
}  // namespace dither::ops
