#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "pipelines/flux2/flux2_components.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::TestParamInfo;
using ::testing::Values;

Flux2Checkpoints open_dummy(const std::string& model, DummyQuantization quantization) {
  const auto folder = ModelFolder::open(fs::path(DITHER_SOURCE_DIR) / "models/configs" / model);
  return open_flux2_checkpoints(folder, load_flux2_configs(folder),
                                {.format = LoadFormat::kDummy, .dummy_quantization = quantization});
}

std::int64_t parameters(const TensorSource& source) {
  std::int64_t count = 0;
  for (const TensorInfo& info : source.tensors()) count += element_count(info.shape);
  return count;
}

/// Of a text encoder: embedding, and per layer D (2 Hq + 2 Hkv) d + 3 D F + 2 D, with d = 128, Hq =
/// 32, Hkv = 8, and 2 d for the norms of Qwen3's heads.
constexpr std::int64_t encoder_parameters(std::int64_t vocab, std::int64_t width,
                                          std::int64_t inner, std::int64_t layers,
                                          std::int64_t head_norms) {
  return vocab * width +
         layers * (width * 80 * 128 + 3 * width * inner + 2 * width + head_norms * 128);
}

struct ModelCase {
  const char* folder;
  std::int64_t transformer;
  std::size_t transformer_tensors;
  std::int64_t text_encoder;  ///< of the layers that are read
};

void PrintTo(const ModelCase& test, std::ostream* out) { *out << test.folder; }

class ShippedFlux2Configs : public ::testing::TestWithParam<ModelCase> {};

/// The numbers of parameters are the published models'.
TEST_P(ShippedFlux2Configs, HaveThePublishedSizes) {
  const Flux2Checkpoints dummy = open_dummy(GetParam().folder, DummyQuantization::kNone);
  EXPECT_EQ(parameters(*dummy.transformer), GetParam().transformer);
  EXPECT_EQ(dummy.transformer->tensors().size(), GetParam().transformer_tensors);
  EXPECT_EQ(parameters(*dummy.text_encoder), GetParam().text_encoder);
  EXPECT_EQ(parameters(*dummy.vae), 84'046'371);
  EXPECT_EQ(native_dtype(*dummy.transformer), DType::kBF16);
}

INSTANTIATE_TEST_SUITE_P(Table, ShippedFlux2Configs,
                         Values(ModelCase{"flux2-dev", 32'223'281'152, 331,
                                          encoder_parameters(131072, 5120, 32768, 30, 0)},
                                ModelCase{"flux2-klein-4b", 3'875'544'576, 169,
                                          encoder_parameters(151936, 2560, 9728, 27, 2)},
                                ModelCase{"flux2-klein-9b", 9'078'581'248, 233,
                                          encoder_parameters(151936, 4096, 12288, 27, 2)}));

struct CountCase {
  const char* name;
  DummyQuantization quantization;
  std::map<std::string, int> layers;  ///< by what takes them back to 16 bits
  int fp8;
};

class DummyFlux2Transformer : public ::testing::TestWithParam<CountCase> {};

/// The profile takes back what ModelOpt's filter leaves out already: both give 192.
TEST_P(DummyFlux2Transformer, QuantizesWhatTheCheckpointsDo) {
  const Flux2Checkpoints dummy = open_dummy("flux2-dev", GetParam().quantization);
  std::map<std::string, int> layers;
  int fp8 = 0;
  for (const quant::LayerPlan& plan : dummy.transformer->layers()) {
    plan.format == quant::Format::kFp8 ? ++fp8 : ++layers[plan.fallback];
  }
  EXPECT_EQ(layers, GetParam().layers);
  EXPECT_EQ(fp8, GetParam().fp8);
}

INSTANTIATE_TEST_SUITE_P(
    Table, DummyFlux2Transformer,
    Values(CountCase{"none", DummyQuantization::kNone, {{"", 203}}, 0},
           CountCase{"profile", DummyQuantization::kFp8Profile, {{"exclusion", 11}}, 192},
           CountCase{"full", DummyQuantization::kFp8Full, {{"exclusion", 11}}, 192}),
    [](const TestParamInfo<CountCase>& test) { return test.param.name; });

}  // namespace
}  // namespace dither
