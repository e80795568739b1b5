#include "schedulers/flow_match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.h"
#include "schedulers/test_safetensors.h"

namespace dither::schedulers {
namespace {

using ::testing::ElementsAreArray;
using ::testing::FloatEq;
using ::testing::HasSubstr;
using ::testing::TestWithParam;
using ::testing::Values;

FlowMatchConfig flux1_dev() { return {.shift = 3.0, .use_dynamic_shifting = true}; }

struct GoldenCase {
  const char* name;
  FlowMatchConfig config;
  int64_t image_seq_len;
};

std::ostream& operator<<(std::ostream& out, const GoldenCase& c) { return out << c.name; }

class FlowMatchGolden : public TestWithParam<GoldenCase> {};

// tests/golden/make_schedules.py: num_inference_steps 1 to 60 one after another, bit for bit.
TEST_P(FlowMatchGolden, EqualsDiffusers) {
  const auto golden =
      read_golden_tensors(DITHER_SOURCE_DIR "/tests/golden/schedules_diffusers0.42.1.safetensors");
  std::vector<float> sigmas;
  std::vector<float> timesteps;
  for (int64_t n = 1; n <= 60; ++n) {
    const auto schedule = flow_match_schedule(GetParam().config, n, GetParam().image_seq_len);
    ASSERT_EQ(schedule.num_inference_steps(), n);
    sigmas.insert(sigmas.end(), schedule.sigmas.begin(), schedule.sigmas.end());
    timesteps.insert(timesteps.end(), schedule.timesteps.begin(), schedule.timesteps.end());
  }
  const std::string name = GetParam().name;
  EXPECT_EQ(sigmas, golden.at(name + ".sigmas"));
  EXPECT_EQ(timesteps, golden.at(name + ".timesteps"));
}

struct MuCase {
  int64_t image_seq_len, num_inference_steps;
  double mu;
};

// diffusers' compute_empirical_mu; the jump behind 4300 tokens is the reference's.
TEST(Flux2Mu, EqualsDiffusers) {
  const MuCase table[] = {{4096, 50, 2.02335116}, {4096, 28, 2.15144316}, {4096, 4, 2.29117989},
                          {1024, 50, 1.70195621}, {8160, 1, 1.83790986},  {8160, 50, 1.83790986},
                          {4300, 50, 2.04469379}, {4301, 50, 1.18469693}};
  for (const MuCase& row : table) {
    EXPECT_NEAR(flux2_mu(row.image_seq_len, row.num_inference_steps), row.mu, 1e-8);
  }
}

TEST(Flux2Mu, GivesTheSigmasOfDiffusers) {
  const auto schedule = flow_match_schedule_for_mu(flux1_dev(), 4, flux2_mu(4096, 4));
  const std::vector<float> expected = {1, .967384F, .908144F, .7672F, 0};
  ASSERT_EQ(schedule.sigmas.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(schedule.sigmas[i], expected[i], 1e-6);
}

INSTANTIATE_TEST_SUITE_P(
    Table, FlowMatchGolden,
    Values(GoldenCase{"exponential.64", flux1_dev(), 64},
           GoldenCase{"exponential.1024", flux1_dev(), 1024},
           GoldenCase{"exponential.4080", flux1_dev(), 4080},
           GoldenCase{"exponential.4096", flux1_dev(), 4096},
           GoldenCase{
               "linear.1024", {.use_dynamic_shifting = true, .time_shift_type = "linear"}, 1024},
           GoldenCase{"static.1", {.shift = 1.0}, 4096},
           GoldenCase{"static.3", {.shift = 3.0}, 4096}));

// The demo model's own run, tests/golden/make_golden.py.
TEST(FlowMatchSchedule, EqualsThePipelineRun) {
  const auto golden =
      read_golden_tensors(DITHER_SOURCE_DIR "/tests/golden/golden_fp32_cuda.safetensors");
  const auto schedule = flow_match_schedule(flux1_dev(), 20, 64);
  EXPECT_EQ(schedule.sigmas, golden.at("case0.sigmas"));
  EXPECT_EQ(schedule.timesteps, golden.at("case0.timesteps"));
}

struct StepCase {
  int64_t steps;
  double mu;
  std::vector<float> sigmas;
};

class FlowMatchSigmas : public TestWithParam<StepCase> {};

TEST_P(FlowMatchSigmas, MatchFormula) {
  const auto schedule = flow_match_schedule_for_mu(flux1_dev(), GetParam().steps, GetParam().mu);
  ASSERT_EQ(schedule.sigmas.size(), GetParam().sigmas.size());
  for (size_t i = 0; i < schedule.sigmas.size(); ++i) {
    EXPECT_THAT(schedule.sigmas[i], FloatEq(GetParam().sigmas[i])) << i;
  }
}

// exp(mu) / (exp(mu) + 1/t - 1) by hand at t = 1, 3/4, 1/2, 1/4.
INSTANTIATE_TEST_SUITE_P(Table, FlowMatchSigmas,
                         Values(StepCase{1, 0.0, {1, 0}}, StepCase{4, 0.0, {1, .75F, .5F, .25F, 0}},
                                StepCase{4, std::log(3.0), {1, .9F, .75F, .5F, 0}}));

TEST(FlowMatchSchedule, StepsSumToMinusOne) {
  const auto schedule = flow_match_schedule(flux1_dev(), 4, 4096);
  float sum = 0;
  for (int64_t i = 0; i < schedule.num_inference_steps(); ++i) {
    EXPECT_LT(schedule.dt(i), 0);
    sum += schedule.dt(i);
  }
  EXPECT_FLOAT_EQ(sum, -1.0F);
}

TEST(CalculateShift, IsTheLineThroughBothEnds) {
  EXPECT_DOUBLE_EQ(calculate_shift(256, flux1_dev()), 0.5);
  EXPECT_DOUBLE_EQ(calculate_shift(1024, flux1_dev()), 0.63);
  EXPECT_DOUBLE_EQ(calculate_shift(4096, flux1_dev()), 1.15);
}

struct BadCase {
  const char* key;
  std::function<void(FlowMatchConfig&)> change;
};

std::ostream& operator<<(std::ostream& out, const BadCase& c) { return out << c.key; }

class FlowMatchBadConfig : public TestWithParam<BadCase> {};

TEST_P(FlowMatchBadConfig, IsNamedInTheError) {
  FlowMatchConfig config = flux1_dev();
  GetParam().change(config);
  try {
    validate(config);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("'" + std::string(GetParam().key) + "'"));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, FlowMatchBadConfig,
    Values(BadCase{"invert_sigmas", [](auto& c) { c.invert_sigmas = true; }},
           BadCase{"shift_terminal", [](auto& c) { c.shift_terminal = 0.1; }},
           BadCase{"use_karras_sigmas", [](auto& c) { c.use_karras_sigmas = true; }},
           BadCase{"use_exponential_sigmas", [](auto& c) { c.use_exponential_sigmas = true; }},
           BadCase{"use_beta_sigmas", [](auto& c) { c.use_beta_sigmas = true; }},
           BadCase{"stochastic_sampling", [](auto& c) { c.stochastic_sampling = true; }},
           BadCase{"time_shift_type", [](auto& c) { c.time_shift_type = "cosine"; }},
           BadCase{"num_train_timesteps", [](auto& c) { c.num_train_timesteps = 0; }},
           BadCase{"shift", [](auto& c) { c.shift = 0; }},
           BadCase{"base_shift", [](auto& c) { c.base_shift = std::nan(""); }},
           BadCase{"max_shift", [](auto& c) { c.max_shift = INFINITY; }},
           BadCase{"max_image_seq_len", [](auto& c) { c.max_image_seq_len = 256; }}));

TEST(FlowMatchSchedule, RefusesImpossibleStepCounts) {
  for (const int64_t steps : {INT64_MIN, int64_t{-1}, int64_t{0}, int64_t{1001}, INT64_MAX}) {
    EXPECT_THROW(flow_match_schedule(flux1_dev(), steps, 64), Error) << steps;
  }
}

struct TimeCase {
  float timestep;
  float reference_bf16;
};

class ModelTimestep : public TestWithParam<TimeCase> {};

TEST_P(ModelTimestep, RoundsLikeTheReference) {
  EXPECT_EQ(model_timestep(GetParam().timestep, ModelTime::kReferenceBF16),
            GetParam().reference_bf16);
  EXPECT_NEAR(model_timestep(GetParam().timestep, ModelTime::kExact), GetParam().timestep, 6.2e-5);
}

// diffusers 58eb52c in bfloat16 on an H200.
INSTANTIATE_TEST_SUITE_P(Table, ModelTimestep,
                         Values(TimeCase{1000.0F, 1000.0F}, TimeCase{969.1F, 968.0F},
                                TimeCase{753.3F, 752.0F}, TimeCase{101.6F, 101.5F}));

TEST(ModelGuidance, RoundsLikeTheReference) {
  EXPECT_EQ(model_guidance(3.5F, ModelTime::kReferenceBF16), 3504.0F);
  EXPECT_EQ(model_guidance(4.0F, ModelTime::kReferenceBF16), 4000.0F);
  EXPECT_EQ(model_guidance(3.5F, ModelTime::kExact), 3500.0F);
}

}  // namespace
}  // namespace dither::schedulers
