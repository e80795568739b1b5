#include "schedulers/unipc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "base/error.h"
#include "schedulers/test_safetensors.h"

namespace dither::schedulers {
namespace {

using ::testing::HasSubstr;
using ::testing::TestWithParam;
using ::testing::Values;
using Samples = std::vector<double>;

UniPcConfig with_shift(double flow_shift) {
  UniPcConfig config;
  config.flow_shift = flow_shift;
  return config;
}

struct GoldenCase {
  const char* name;
  std::int64_t steps;
  double flow_shift;
  std::int64_t solver_order = 2;
};

std::ostream& operator<<(std::ostream& out, const GoldenCase& c) { return out << c.name; }

UniPcSchedule schedule_of(const GoldenCase& test) {
  UniPcConfig config = with_shift(test.flow_shift);
  config.solver_order = test.solver_order;
  return unipc_schedule(config, test.steps);
}

const std::map<std::string, std::vector<float>>& golden() {
  static const auto tensors =
      read_golden_tensors(DITHER_SOURCE_DIR "/tests/golden/wan/unipc.safetensors");
  return tensors;
}

class UniPcGolden : public TestWithParam<GoldenCase> {};

// tests/golden/make_unipc.py, bit for bit.
TEST_P(UniPcGolden, LevelsEqualDiffusers) {
  const UniPcSchedule schedule = schedule_of(GetParam());
  const std::string name = std::string(GetParam().name) + ".";
  EXPECT_EQ(schedule.sigmas, golden().at(name + "sigmas"));
  const std::vector<float> timesteps(schedule.timesteps.begin(), schedule.timesteps.end());
  EXPECT_EQ(timesteps, golden().at(name + "timesteps"));
}

// The steps in float64 against diffusers' in float64, which the golden rounds to float32.
TEST_P(UniPcGolden, StepsEqualDiffusersInFloat64) {
  const UniPcSchedule schedule = schedule_of(GetParam());
  const auto& direction = golden().at("direction");
  const auto& start = golden().at("latents");
  const auto& exact = golden().at(std::string(GetParam().name) + ".exact");
  const std::size_t size = start.size();
  ASSERT_EQ(exact.size(), size * schedule.steps.size());

  Samples x(start.begin(), start.end());
  Samples corrected(size);
  Samples previous(size);
  Samples older(size);
  double worst = 0;
  for (std::size_t step = 0; step < schedule.steps.size(); ++step) {
    const auto& [sigma, corrector, predictor] = schedule.steps[step];
    const double t = static_cast<double>(schedule.timesteps[step]);
    for (std::size_t i = 0; i < size; ++i) {
      const double velocity = double{direction[i]} + 0.25 * (t / 1000) * x[i];
      const double current = x[i] - sigma * velocity;
      if (corrector) {
        x[i] = corrector->previous_sample * corrected[i] + corrector->previous * previous[i] +
               corrector->older * older[i] + corrector->current * current;
      }
      corrected[i] = x[i];
      x[i] =
          predictor.sample * x[i] + predictor.current * current + predictor.previous * previous[i];
      older[i] = previous[i];
      previous[i] = current;
      const double expected = exact[step * size + i];
      worst = std::max(worst, std::abs(x[i] - expected) / std::max(1.0, std::abs(expected)));
    }
  }
  RecordProperty("worst", std::to_string(worst));
  EXPECT_LE(worst, std::numeric_limits<float>::epsilon() / 2);
}

INSTANTIATE_TEST_SUITE_P(
    Table, UniPcGolden,
    Values(GoldenCase{"steps6.shift12", 6, 12}, GoldenCase{"steps6.shift3", 6, 3},
           GoldenCase{"steps40.shift12", 40, 12}, GoldenCase{"steps40.shift5", 40, 5},
           GoldenCase{"steps40.shift3", 40, 3}, GoldenCase{"steps50.shift5", 50, 5},
           GoldenCase{"steps1.shift3", 1, 3}, GoldenCase{"steps2.shift3", 2, 3},
           GoldenCase{"steps3.shift8", 3, 8}, GoldenCase{"steps30.shift1", 30, 1},
           GoldenCase{"steps8.shift0.5", 8, 0.5}, GoldenCase{"order1.steps5.shift3", 5, 3, 1}));

// How many of 40 steps the expert for high noise takes at Wan's boundaries.
TEST(UniPcSchedule, BoundaryOfTheExperts) {
  struct Case {
    double flow_shift;
    std::int64_t boundary;
    int high;
  };
  for (const Case& test :
       {Case{12, 875, 26}, Case{3, 875, 13}, Case{5, 875, 17}, Case{5, 900, 15}}) {
    const UniPcSchedule schedule = unipc_schedule(with_shift(test.flow_shift), 40);
    int high = 0;
    for (const std::int64_t t : schedule.timesteps) high += t >= test.boundary ? 1 : 0;
    EXPECT_EQ(high, test.high) << test.flow_shift << " " << test.boundary;
  }
}

// x, x_p and all predictions equal: a solver that is exact for constants leaves the clean sample.
TEST(UniPcSchedule, CoefficientsKeepACleanSample) {
  for (const std::int64_t steps : {1, 2, 3, 40, 1000}) {
    const UniPcSchedule schedule = unipc_schedule(with_shift(5), steps);
    for (std::size_t i = 0; i < schedule.steps.size(); ++i) {
      const auto& [sigma, corrector, predictor] = schedule.steps[i];
      EXPECT_NEAR(predictor.sample + predictor.current + predictor.previous, 1.0, 1e-12) << i;
      if (!corrector) continue;
      const double sum =
          corrector->previous_sample + corrector->previous + corrector->older + corrector->current;
      EXPECT_NEAR(sum, 1.0, 1e-9) << i;
    }
    EXPECT_FALSE(schedule.steps.front().corrector);
    EXPECT_EQ(schedule.steps.back().predictor.sample, 0.0);
    EXPECT_EQ(schedule.steps.back().predictor.current, 1.0);
  }
}

struct BadCase {
  const char* key;
  std::function<void(UniPcConfig&)> change;
  ErrorCode code = ErrorCode::kUnsupported;
};

std::ostream& operator<<(std::ostream& out, const BadCase& c) { return out << c.key; }

class UniPcBadConfig : public TestWithParam<BadCase> {};

TEST_P(UniPcBadConfig, IsNamedInTheError) {
  UniPcConfig config = with_shift(3);
  GetParam().change(config);
  try {
    unipc_schedule(config, 4);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), GetParam().code) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("'" + std::string(GetParam().key) + "'"));
  }
}

constexpr auto kBad = ErrorCode::kInvalidArgument;

INSTANTIATE_TEST_SUITE_P(
    Table, UniPcBadConfig,
    Values(BadCase{"prediction_type", [](auto& c) { c.prediction_type = "epsilon"; }},
           BadCase{"solver_type", [](auto& c) { c.solver_type = "bh1"; }},
           BadCase{"final_sigmas_type", [](auto& c) { c.final_sigmas_type = "sigma_min"; }},
           BadCase{"predict_x0", [](auto& c) { c.predict_x0 = false; }},
           BadCase{"use_flow_sigmas", [](auto& c) { c.use_flow_sigmas = false; }},
           BadCase{"lower_order_final", [](auto& c) { c.lower_order_final = false; }},
           BadCase{"thresholding", [](auto& c) { c.thresholding = true; }},
           BadCase{"use_dynamic_shifting", [](auto& c) { c.use_dynamic_shifting = true; }},
           BadCase{"use_karras_sigmas", [](auto& c) { c.use_karras_sigmas = true; }},
           BadCase{"use_exponential_sigmas", [](auto& c) { c.use_exponential_sigmas = true; }},
           BadCase{"use_beta_sigmas", [](auto& c) { c.use_beta_sigmas = true; }},
           BadCase{"disable_corrector", [](auto& c) { c.disable_corrector = {0}; }},
           BadCase{"shift_terminal", [](auto& c) { c.shift_terminal = 0.1; }},
           BadCase{"solver_order", [](auto& c) { c.solver_order = 3; }},
           BadCase{"num_train_timesteps", [](auto& c) { c.num_train_timesteps = 0; }, kBad},
           BadCase{"flow_shift", [](auto& c) { c.flow_shift = 0; }, kBad},
           BadCase{"flow_shift", [](auto& c) { c.flow_shift = std::nan(""); }, kBad},
           BadCase{"flow_shift", [](auto& c) { c.flow_shift = INFINITY; }, kBad},
           BadCase{"flow_shift", [](auto& c) { c.flow_shift = 1e9; }, kBad}));

TEST(UniPcSchedule, RefusesImpossibleStepCounts) {
  for (const std::int64_t steps : {INT64_MIN, int64_t{-1}, int64_t{0}, int64_t{1001}, INT64_MAX}) {
    EXPECT_THROW(unipc_schedule(with_shift(3), steps), Error) << steps;
  }
}

}  // namespace
}  // namespace dither::schedulers
