#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/test_util.h"
#include "pipelines/wan/wan_components.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Values;

WanCheckpoints open_dummy(const std::string& model, PipelineOptions options = {}) {
  const auto folder = ModelFolder::open(fs::path(DITHER_SOURCE_DIR) / "models/configs" / model);
  options.format = LoadFormat::kDummy;
  return open_wan_checkpoints(folder, load_wan_configs(folder), options);
}

std::int64_t parameters(const TensorSource& source) {
  std::int64_t count = 0;
  for (const TensorInfo& info : source.tensors()) count += element_count(info.shape);
  return count;
}

struct ModelCase {
  const char* folder;
  std::int64_t transformer;
  std::int64_t vae;
  bool two;
};

void PrintTo(const ModelCase& test, std::ostream* out) { *out << test.folder; }

class ShippedWanConfigs : public ::testing::TestWithParam<ModelCase> {};

/// The numbers of parameters are the published models'.
TEST_P(ShippedWanConfigs, HaveThePublishedSizes) {
  const WanCheckpoints dummy = open_dummy(GetParam().folder);
  EXPECT_EQ(parameters(*dummy.transformer), GetParam().transformer);
  EXPECT_EQ(parameters(*dummy.vae), GetParam().vae);
  EXPECT_EQ(dummy.transformer_2 != nullptr, GetParam().two);
  if (dummy.transformer_2) {
    EXPECT_EQ(parameters(*dummy.transformer_2), GetParam().transformer);
  }
}

// The autoencoders' numbers are of diffusers' AutoencoderKLWan with these configs.
INSTANTIATE_TEST_SUITE_P(Table, ShippedWanConfigs,
                         Values(ModelCase{"wan2.2-t2v-a14b", 14'288'491'584, 126'892'531, true},
                                ModelCase{"wan2.2-i2v-a14b", 14'288'901'184, 126'892'531, true},
                                ModelCase{"wan2.1-t2v-1.3b", 1'418'996'800, 126'892'531, false},
                                ModelCase{"wan2.2-ti2v-5b", 4'999'787'712, 704'688'668, false}));

/// Linear layers in FP8, and what takes the others back to 16 bits.
std::pair<int, std::map<std::string, int>> count(const quant::WeightSource& source) {
  int fp8 = 0;
  std::map<std::string, int> others;
  for (const quant::LayerPlan& plan : source.layers()) {
    plan.format == quant::Format::kFp8 ? ++fp8 : ++others[plan.fallback];
  }
  return {fp8, others};
}

/// ModelOpt quantizes 34 of 40 blocks, ten layers each; SGLang's converter has no profile for Wan.
TEST(DummyWan, QuantizesWhatTheCheckpointsDo) {
  for (const auto quantization : {DummyQuantization::kFp8Profile, DummyQuantization::kFp8Full}) {
    const WanCheckpoints dummy =
        open_dummy("wan2.2-t2v-a14b", {.dummy_quantization = quantization});
    for (const auto* expert : {dummy.transformer.get(), dummy.transformer_2.get()}) {
      EXPECT_EQ(count(*expert).first, 340);
      EXPECT_EQ(count(*expert).second.size(), 1U);
      EXPECT_GT(count(*expert).second["exclusion"], 60);
    }
  }
}

TEST(DummyWan, EveryExpertHasItsQuantization) {
  constexpr auto kNone = DummyQuantization::kNone;
  constexpr auto kFull = DummyQuantization::kFp8Full;
  for (const auto first : {kNone, kFull}) {
    for (const auto second : {kNone, kFull}) {
      const WanCheckpoints dummy = open_dummy(
          "wan2.2-t2v-a14b", {.dummy_quantization = first, .dummy_quantization_2 = second});
      EXPECT_EQ(count(*dummy.transformer).first, first == kFull ? 340 : 0);
      EXPECT_EQ(count(*dummy.transformer_2).first, second == kFull ? 340 : 0);
    }
  }
}

TEST(DummyWan, OverridesNeedTheComponent) {
  const auto folder =
      ModelFolder::open(fs::path(DITHER_SOURCE_DIR) / "models/configs/wan2.1-t2v-1.3b");
  PipelineOptions options;
  check_overridden_components(folder, options);
  options.transformer_2.weights = "elsewhere";
  EXPECT_THAT(error_of([&] { check_overridden_components(folder, options); }).what(),
              HasSubstr("--transformer-2-weights-path"));
  options.transformer_2 = {};
  options.dummy_quantization_2 = DummyQuantization::kFp8Full;
  EXPECT_THAT(error_of([&] { check_overridden_components(folder, options); }).what(),
              HasSubstr("has no component 'transformer_2'"));
}

}  // namespace
}  // namespace dither
