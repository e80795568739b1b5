#include "pipelines/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_util.h"
#include "pipelines/flux1/flux1_components.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::TestParamInfo;
using ::testing::Values;

constexpr std::size_t kMiB = std::size_t{1} << 20;

/// A text encoder of 10 MiB in 4 layers and 2 beside them, a transformer with 8 MiB of modulations
/// in 4 layers and 20 in 10 blocks, a decoder of 1 MiB; 3 MiB to compute in the transformer.
MemoryPlan plan(std::optional<std::size_t> available_mib, const OffloadOptions& options = {},
                const ActivationBytes& activations = {
                    .text_encoding = kMiB, .denoising = 3 * kMiB, .decoding = 2 * kMiB}) {
  const auto layers = [](std::size_t count) { return std::vector<std::size_t>(count, 2 * kMiB); };
  const std::vector<PlannedComponent> components = {
      {.bytes = {"text_encoder", 2 * kMiB, {{"blocks", layers(4)}}}, .stage = Stage::kTextEncoding},
      {.bytes = {"transformer", kMiB, {{"modulations", layers(4)}, {"blocks", layers(10)}}},
       .stage = Stage::kDenoising,
       .denoiser = true,
       .every_step = "blocks"},
      {.bytes = {"vae", kMiB, {}}, .stage = Stage::kDecoding}};
  std::optional<std::size_t> available;
  if (available_mib) available = *available_mib * kMiB;
  return plan_memory(components, activations, available, options);
}

struct PlanCase {
  const char* name;
  std::optional<std::size_t> available_mib;
  OffloadOptions options;
  const char* summary;
  std::size_t peak_mib;
};

void PrintTo(const PlanCase& test, std::ostream* out) { *out << test.name; }

class Plans : public ::testing::TestWithParam<PlanCase> {};

TEST_P(Plans, PlacesWeights) {
  const MemoryPlan made = plan(GetParam().available_mib, GetParam().options);
  EXPECT_EQ(summarize(made), GetParam().summary);
  EXPECT_EQ(made.peak_bytes, GetParam().peak_mib * kMiB);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Plans,
    Values(
        // 10 + 29 + 1, and 3 to compute.
        PlanCase{"Host", std::nullopt, {.dit_layerwise_offload = true}, "resident", 43},
        PlanCase{"Fits", 43, {}, "resident", 43},
        // The text encoder's 8 MiB of layers need room for two.
        PlanCase{"TextStreams", 42, {}, "4 blocks of text_encoder streamed", 39},
        PlanCase{"ModulationsToo",
                 38,
                 {},
                 "4 blocks of text_encoder streamed; 4 modulations of transformer streamed",
                 35},
        // One or two blocks that stream free nothing, since two have room.
        PlanCase{
            "SomeBlocks",
            34,
            {},
            "4 blocks of text_encoder streamed; 3 blocks, 4 modulations of transformer streamed",
            33},
        PlanCase{"AllBlocks",
                 19,
                 {},
                 "4 blocks of text_encoder streamed; 10 blocks, 4 modulations of transformer "
                 "streamed",
                 19},
        PlanCase{"Layerwise",
                 100,
                 {.dit_layerwise_offload = true},
                 "10 blocks, 4 modulations of transformer streamed",
                 23},
        // Without the transformer the text encoder needs 12 in its stage.
        PlanCase{"Whole", 100, {.dit_cpu_offload = true}, "transformer offloaded", 43},
        PlanCase{"TextEncoder",
                 100,
                 {.text_encoder_cpu_offload = true},
                 "4 blocks of text_encoder streamed",
                 39}),
    [](const TestParamInfo<PlanCase>& test) { return test.param.name; });

/// Two experts of 20 MiB in 10 blocks and 1 beside them, a decoder of 1 MiB; 3 MiB to compute.
MemoryPlan plan_experts(std::size_t available_mib, const OffloadOptions& options) {
  const std::vector<std::size_t> blocks(10, 2 * kMiB);
  std::vector<PlannedComponent> components;
  for (const char* name : {"transformer", "transformer_2"}) {
    components.push_back({.bytes = {name, kMiB, {{"blocks", blocks}}},
                          .stage = Stage::kDenoising,
                          .turn = static_cast<int>(components.size()),
                          .denoiser = true,
                          .every_step = "blocks"});
  }
  components.push_back({.bytes = {"vae", kMiB, {}}, .stage = Stage::kDecoding});
  const ActivationBytes activations{
      .text_encoding = kMiB, .denoising = 3 * kMiB, .decoding = 2 * kMiB};
  return plan_memory(components, activations, available_mib * kMiB, options);
}

class ExpertPlans : public ::testing::TestWithParam<PlanCase> {};

TEST_P(ExpertPlans, TakeTurns) {
  const MemoryPlan made = plan_experts(*GetParam().available_mib, GetParam().options);
  EXPECT_EQ(summarize(made), GetParam().summary);
  EXPECT_EQ(made.peak_bytes, GetParam().peak_mib * kMiB);
}

INSTANTIATE_TEST_SUITE_P(
    Table, ExpertPlans,
    Values(PlanCase{"Both", 46, {}, "resident", 46},
           // One at a time: 21 + 1, and 3 to compute.
           PlanCase{"Turns", 45, {}, "transformer offloaded; transformer_2 offloaded", 25},
           PlanCase{"AsAsked",
                    100,
                    {.dit_cpu_offload = true},
                    "transformer offloaded; transformer_2 offloaded",
                    25},
           // Where one is too large, the layers of both stream: 2 (1 + 2 x 2) + 1 + 3.
           PlanCase{"Streamed",
                    14,
                    {},
                    "10 blocks of transformer streamed; 10 blocks of transformer_2 streamed",
                    14},
           PlanCase{"Layerwise",
                    100,
                    {.dit_layerwise_offload = true},
                    "10 blocks of transformer streamed; 10 blocks of transformer_2 streamed",
                    14}),
    [](const TestParamInfo<PlanCase>& test) { return test.param.name; });

TEST(MemoryPlan, SaysWhatIsMissing) {
  const Error error = error_of([] { plan(15); });
  EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("DenoisingStage needs 19 MiB"),
                                  HasSubstr("15 are available: 4 MiB are missing"),
                                  HasSubstr("fewer pixels take less")));
}

TEST(MemoryPlan, NamesTheOptionThatWouldFit) {
  ActivationBytes activations{.text_encoding = kMiB,
                              .denoising = 3 * kMiB,
                              .decoding = 30 * kMiB,
                              .tiled_decoding = 2 * kMiB};
  const auto refusal = [&](std::size_t mib) {
    return std::string(error_of([&] { plan(mib, {}, activations); }).what());
  };
  EXPECT_THAT(refusal(19), AllOf(HasSubstr("DecodingStage needs 46 MiB"),
                                 HasSubstr("27 MiB are missing; with --vae-tiling 19 MiB do")));
  EXPECT_THAT(refusal(18), HasSubstr("fewer pixels take less"));
}

TEST(MemoryPlan, RefusesBothWaysAtOnce) {
  const Error error =
      error_of([] { plan(100, {.dit_cpu_offload = true, .dit_layerwise_offload = true}); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
}

TEST(MemoryPlan, TellsPeopleOnlyWhatIsUnusual) {
  EXPECT_THAT(to_string(plan(100)), IsEmpty());
  EXPECT_THAT(to_string(plan(19)),
              AllOf(HasSubstr("0.0 GiB available"), HasSubstr("10 blocks, 4 modulations")));
}

// FLUX.1-dev: 57 blocks, 77 layers of modulations, and published numbers of parameters.
TEST(ComponentBytes, OfFlux1) {
  const auto folder =
      ModelFolder::open(std::filesystem::path(DITHER_SOURCE_DIR) / "models/configs/flux1-dev");
  const Flux1Configs configs = load_flux1_configs(folder);
  const nn::TensorTable table = models::flux1_table(configs.transformer);
  for (const auto quantization : {DummyQuantization::kNone, DummyQuantization::kFp8Full}) {
    const auto checkpoints = open_flux1_checkpoints(
        folder, configs, {.format = LoadFormat::kDummy, .dummy_quantization = quantization});
    const ComponentBytes bytes =
        component_bytes("transformer", table, *checkpoints.transformer, DType::kBF16);
    ASSERT_EQ(bytes.sequences.size(), 2U);
    EXPECT_EQ(bytes.sequences[0].layers.size(), 77U);
    EXPECT_EQ(bytes.sequences[1].layers.size(), 57U);
    const auto total =
        static_cast<double>(bytes.fixed + bytes.sequences[0].total() + bytes.sequences[1].total());
    const double per_parameter = quantization == DummyQuantization::kNone ? 2 : 1;
    EXPECT_NEAR(total / (per_parameter * 11'901'408'320), 1, 0.01);
    EXPECT_NEAR(static_cast<double>(bytes.stored) / (per_parameter * 11'901'408'320), 1, 0.01);
  }
}

// Exports of ModelOpt's own: all that their files hold but the scales of whole tensors.
TEST(ComponentBytes, AreStoredAsTheFilesSay) {
  for (const char* name : {"flux1-micro/base", "flux1-micro/hf", "flux1-micro-nvfp4/hf"}) {
    SCOPED_TRACE(name);
    const auto folder = std::filesystem::path(DITHER_SOURCE_DIR) / "tests/golden/modelopt" / name;
    const auto table =
        models::flux1_table(parse_flux1_config(JsonConfig::load(folder / "config.json")));
    const auto source = open_component_weights(folder, kDiffusersStem);
    std::int64_t bits = 0;
    for (const TensorInfo& info : source->stored_sources().at(0)->tensors()) {
      if (!info.shape.empty()) bits += element_count(info.shape) * dtype_bits(info.dtype);
    }
    EXPECT_EQ(component_bytes("transformer", table, *source, DType::kF32).stored,
              static_cast<std::size_t>(bits / 8));
  }
}

TEST(ComponentBytes, FollowTheWeightPolicy) {
  const auto folder =
      ModelFolder::open(std::filesystem::path(DITHER_SOURCE_DIR) / "models/configs/flux1-dev");
  const Flux1Configs configs = load_flux1_configs(folder);
  const auto checkpoints = open_flux1_checkpoints(folder, configs, {.format = LoadFormat::kDummy});
  const quant::WeightSource& t5 = *checkpoints.text_encoder_2;
  const auto table = models::t5_encoder_table(configs.text_encoder_2, t5);
  const auto blocks = [&](const quant::WeightPolicy& policy) {
    return static_cast<double>(
        component_bytes("t5", table, t5, DType::kBF16, policy).sequences.at(0).total());
  };
  EXPECT_NEAR(blocks({.plain_as_fp8 = true}) / blocks({}), 0.5, 0.001);
}

}  // namespace
}  // namespace dither
