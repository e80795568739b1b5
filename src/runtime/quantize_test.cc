#include "runtime/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/atomic_file.h"
#include "base/test_util.h"
#include "io/component_weights.h"
#include "runtime/compare.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

const fs::path kModel = fs::path(DITHER_SOURCE_DIR) / "models/emoji-flux";
constexpr const char* kWeights = "diffusion_pytorch_model.safetensors";

QuantizeOptions options_for(const fs::path& output) {
  return {.load = {.model_path = kModel},
          .output_dir = output,
          .prompts = {"a red apple", "rocket", "owl", "wizard"},
          .num_inference_steps = 8};
}

std::string content(const fs::path& file) { return read_text_file(file, 64U << 20); }

TEST(QuantizeFp8, PicturesStayCloseAndWeightsShrink) {
  const TempFolder folder;
  const QuantizeReport report = quantize_fp8(options_for(folder.path()), {});
  EXPECT_EQ(report.layers.size(), 52U);
  for (const Fp8ExportLayer& layer : report.layers) {
    EXPECT_EQ(layer.input_scale, layer.input_amax / 448) << layer.name;
    EXPECT_EQ(layer.weight_scale, layer.weight_amax / 448) << layer.name;
  }
  CompareOptions compare;
  compare.reference.model_path = kModel;
  compare.candidate.model_path = kModel;
  compare.candidate.component_paths["transformer"] = report.transformer;
  compare.candidate.pipeline.strict_precision = true;
  for (const char* prompt : {"a dog", "a red apple"}) {
    compare.request.prompt = prompt;
    const Comparison result = compare_models(compare, nullptr);
    EXPECT_GE(result.selected().similarity.cosine, 0.99) << prompt;
    EXPECT_LE(static_cast<double>(result.candidate.transformer_weight_bytes),
              0.56 * static_cast<double>(result.reference.transformer_weight_bytes));
    // 52 layers at the first and the last step; modulations run once, before the first.
    const auto modulations = std::ranges::count_if(
        report.layers, [](const auto& layer) { return layer.name.ends_with("linear"); });
    EXPECT_EQ(std::ssize(result.layers), 2 * 52 - modulations);
    EXPECT_TRUE(
        std::ranges::is_sorted(result.layers, std::ranges::greater{}, &LayerError::relative_l2));
    EXPECT_LT(result.layers.front().relative_l2, 0.1);
    EXPECT_GT(result.layers.back().relative_l2, 0.001);
  }
}

TEST(QuantizeFp8, SameSeedSameBytes) {
  const TempFolder folder;
  QuantizeOptions options = options_for(folder.path() / "a");
  options.num_inference_steps = 1;
  const fs::path first = quantize_fp8(options, {}).transformer;
  options.output_dir = folder.path() / "b";
  const fs::path second = quantize_fp8(options, {}).transformer;
  EXPECT_EQ(content(first / kWeights), content(second / kWeights));
  EXPECT_EQ(content(first / "config.json"), content(second / "config.json"));
}

TEST(QuantizeFp8, IgnoredLayersAndBiasesKeepTheirBytes) {
  const TempFolder folder;
  QuantizeOptions options = options_for(folder.path());
  options.num_inference_steps = 1;
  options.ignore = {"single_transformer_blocks.3.*"};
  options.profile = "flux1";
  const QuantizeReport report = quantize_fp8(options, {});
  const auto source = open_component_weights(kModel / "transformer", kDiffusersStem);
  const auto written = open_component_weights(report.transformer, kDiffusersStem);
  for (const TensorInfo& info : source->stored().tensors()) {
    const TensorInfo* const now = written->stored().find(info.name);
    ASSERT_NE(now, nullptr) << info.name;
    const std::string layer = info.name.substr(0, info.name.rfind('.'));
    const bool quantized =
        info.name.ends_with(".weight") &&
        std::ranges::find(report.layers, layer, &Fp8ExportLayer::name) != report.layers.end();
    EXPECT_EQ(now->dtype, quantized ? DType::kF8E4M3 : info.dtype) << info.name;
    if (quantized) {
      EXPECT_FALSE(layer.starts_with("single_transformer_blocks.3.")) << layer;
      EXPECT_FALSE(layer.ends_with("ff.net.2")) << layer;
    }
  }
}

TEST(QuantizeFp8, PercentileIsAtMostTheMaximum) {
  const TempFolder folder;
  QuantizeOptions options = options_for(folder.path() / "max");
  options.num_inference_steps = 1;
  const auto largest = quantize_fp8(options, {}).layers;
  options.output_dir = folder.path() / "percentile";
  options.input_percentile = 99;
  const auto clipped = quantize_fp8(options, {}).layers;
  ASSERT_EQ(largest.size(), clipped.size());
  for (std::size_t i = 0; i < largest.size(); ++i) {
    EXPECT_LT(clipped[i].input_amax, largest[i].input_amax) << largest[i].name;
    EXPECT_EQ(clipped[i].weight_amax, largest[i].weight_amax);
  }
}

TEST(QuantizeFp8, RefusesWhatMakesNoSense) {
  const TempFolder folder;
  QuantizeOptions options = options_for(folder.path());
  options.num_inference_steps = 1;

  QuantizeOptions wrong = options;
  wrong.ignore = {"no_such_layer*"};
  EXPECT_THAT(error_of([&] { quantize_fp8(wrong, {}); }).what(), HasSubstr("'no_such_layer*'"));
  wrong = options;
  wrong.profile = "flux9";
  EXPECT_THAT(error_of([&] { quantize_fp8(wrong, {}); }).what(), HasSubstr("'flux9'"));
  wrong = options;
  wrong.output_dir = kModel;
  EXPECT_THAT(error_of([&] { quantize_fp8(wrong, {}); }).what(), HasSubstr("overlaps"));

  const fs::path transformer = quantize_fp8(options, {}).transformer;
  EXPECT_THAT(error_of([&] { quantize_fp8(options, {}); }).what(), HasSubstr("--overwrite"));
  wrong = options_for(folder.path() / "again");
  wrong.load.component_paths = {{"transformer", transformer}};
  EXPECT_THAT(error_of([&] { quantize_fp8(wrong, {}); }).what(),
              AllOf(HasSubstr("already"), HasSubstr("F8_E4M3")));
}

TEST(QuantizeFp8, StoppedLeavesNothing) {
  const TempFolder folder;
  const Error error = error_of([&] {
    quantize_fp8(options_for(folder.path() / "out"),
                 {.calibration = [](const Progress&) { return false; }});
  });
  EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  EXPECT_FALSE(fs::exists(folder.path() / "out"));
}

}  // namespace
}  // namespace dither
