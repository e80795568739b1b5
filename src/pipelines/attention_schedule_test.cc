#include <gtest/gtest.h>

#include "pipelines/pipeline.h"

namespace dither {
namespace {

using ops::AttentionPrecision;

struct NameCase {
  const char* text;
  std::optional<AttentionSchedule> schedule;
  const char* name;
};
class AttentionScheduleNames : public ::testing::TestWithParam<NameCase> {};

TEST_P(AttentionScheduleNames, AreParsedAndPrinted) {
  const auto parsed = parse_attention_schedule(GetParam().text);
  EXPECT_EQ(parsed, GetParam().schedule);
  if (parsed) {
    EXPECT_EQ(attention_schedule_name(*parsed), GetParam().name);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, AttentionScheduleNames,
    ::testing::Values(NameCase{"bf16", AttentionSchedule{}, "bf16"},
                      NameCase{"fp8", AttentionSchedule{.fp8 = true}, "fp8"},
                      NameCase{"schedule:first=2,last=1",
                               AttentionSchedule{.fp8 = true, .first = 2, .last = 1},
                               "schedule:first=2,last=1"},
                      NameCase{"schedule:last=3", AttentionSchedule{.fp8 = true, .last = 3},
                               "schedule:first=0,last=3"},
                      NameCase{"schedule:first=0", AttentionSchedule{.fp8 = true}, "fp8"},
                      NameCase{"", std::nullopt, ""}, NameCase{"FP8", std::nullopt, ""},
                      NameCase{"schedule:", std::nullopt, ""},
                      NameCase{"schedule:first=", std::nullopt, ""},
                      NameCase{"schedule:first=-1", std::nullopt, ""},
                      NameCase{"schedule:first=1,", std::nullopt, ""},
                      NameCase{"schedule:first=99999999999", std::nullopt, ""},
                      NameCase{"schedule:middle=1", std::nullopt, ""}));

TEST(AttentionSchedule, KeepsTheEnds) {
  const AttentionSchedule schedule{.fp8 = true, .first = 2, .last = 1};
  for (int step = 0; step < 6; ++step) {
    const bool inside = step >= 2 && step < 5;
    EXPECT_EQ(schedule.at(step, 6),
              inside ? AttentionPrecision::kE4m3 : AttentionPrecision::kActivations)
        << step;
  }
  EXPECT_EQ(AttentionSchedule{}.at(3, 6), AttentionPrecision::kActivations);
}

}  // namespace
}  // namespace dither
