#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/test_util.h"
#include "pipelines/flux1/flux1_components.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::TestParamInfo;
using ::testing::Values;

Flux1Checkpoints open_dummy(const std::string& model, DummyQuantization quantization) {
  const auto folder = ModelFolder::open(fs::path(DITHER_SOURCE_DIR) / "models/configs" / model);
  return open_flux1_checkpoints(folder, load_flux1_configs(folder),
                                {.format = LoadFormat::kDummy, .dummy_quantization = quantization});
}

std::int64_t parameters(const TensorSource& source) {
  std::int64_t count = 0;
  for (const TensorInfo& info : source.tensors()) count += element_count(info.shape);
  return count;
}

struct ModelCase {
  const char* folder;
  std::int64_t transformer;
  std::size_t transformer_tensors;
};

void PrintTo(const ModelCase& test, std::ostream* out) { *out << test.folder; }

class ShippedConfigs : public ::testing::TestWithParam<ModelCase> {};

/// The numbers of parameters are the published models'.
TEST_P(ShippedConfigs, HaveThePublishedSizes) {
  const Flux1Checkpoints dummy = open_dummy(GetParam().folder, DummyQuantization::kNone);
  EXPECT_EQ(parameters(*dummy.transformer), GetParam().transformer);
  EXPECT_EQ(dummy.transformer->tensors().size(), GetParam().transformer_tensors);
  EXPECT_EQ(parameters(*dummy.text_encoder), 123'060'480);
  EXPECT_EQ(parameters(*dummy.text_encoder_2), 4'762'310'656);
  EXPECT_EQ(parameters(*dummy.vae), 83'819'683);
  EXPECT_EQ(native_dtype(*dummy.transformer), DType::kBF16);
}

TEST_P(ShippedConfigs, SuggestHowToDraw) {
  const auto folder =
      ModelFolder::open(fs::path(DITHER_SOURCE_DIR) / "models/configs" / GetParam().folder);
  EXPECT_EQ(folder.defaults().width, 1024);
  EXPECT_EQ(folder.defaults().height, 1024);
  EXPECT_TRUE(folder.defaults().num_inference_steps.has_value());
  EXPECT_TRUE(folder.defaults().max_sequence_length.has_value());
}

INSTANTIATE_TEST_SUITE_P(Table, ShippedConfigs,
                         Values(ModelCase{"flux1-dev", 11'901'408'320, 1160},
                                ModelCase{"flux1-schnell", 11'891'178'560, 1156}));

struct CountCase {
  const char* name;
  DummyQuantization quantization;
  std::map<std::string, int> layers;  ///< by what takes them back to 16 bits
  int fp8;
};

class DummyTransformer : public ::testing::TestWithParam<CountCase> {};

TEST_P(DummyTransformer, QuantizesWhatTheCheckpointsDo) {
  const Flux1Checkpoints dummy = open_dummy("flux1-dev", GetParam().quantization);
  std::map<std::string, int> layers;
  int fp8 = 0;
  for (const quant::LayerPlan& plan : dummy.transformer->layers()) {
    plan.format == quant::Format::kFp8 ? ++fp8 : ++layers[plan.fallback];
  }
  EXPECT_EQ(layers, GetParam().layers);
  EXPECT_EQ(fp8, GetParam().fp8);
  for (const auto* plain : {&dummy.text_encoder, &dummy.text_encoder_2, &dummy.vae}) {
    EXPECT_EQ((*plain)->declared_by(), "dummy weights, seed 0, none");
  }
}

INSTANTIATE_TEST_SUITE_P(Table, DummyTransformer,
                         Values(CountCase{"none", DummyQuantization::kNone, {{"", 504}}, 0},
                                CountCase{"profile",
                                          DummyQuantization::kFp8Profile,
                                          {{"exclusion", 10}, {"profile flux1", 152}},
                                          342},
                                CountCase{
                                    "full", DummyQuantization::kFp8Full, {{"exclusion", 10}}, 494}),
                         [](const TestParamInfo<CountCase>& test) { return test.param.name; });

struct Contradiction {
  const char* name;
  PipelineOptions options;
  const char* says;
};

class DummyOptions : public ::testing::TestWithParam<Contradiction> {};

TEST_P(DummyOptions, AreNotForFiles) {
  const auto folder = ModelFolder::open(fs::path(DITHER_SOURCE_DIR) / "models/emoji-flux");
  const Error error = error_of(
      [&] { open_flux1_checkpoints(folder, load_flux1_configs(folder), GetParam().options); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.what(), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Table, DummyOptions,
    Values(Contradiction{"quantization",
                         {.dummy_quantization = DummyQuantization::kFp8Full},
                         "--dummy-quantization fp8-full needs --load-format dummy"},
           Contradiction{"weights",
                         {.format = LoadFormat::kDummy, .transformer = {.weights = "a"}},
                         "--transformer-weights-path"},
           Contradiction{"backbone",
                         {.format = LoadFormat::kDummy, .transformer = {.modelopt_backbone = "a"}},
                         "--modelopt-backbone"}),
    [](const TestParamInfo<Contradiction>& test) { return test.param.name; });

}  // namespace
}  // namespace dither
