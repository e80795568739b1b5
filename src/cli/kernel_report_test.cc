#include "cli/kernel_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <tuple>
#include <vector>

namespace dither::cli {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::TestParamInfo;
using ::testing::Values;

struct KindCase {
  const char* name;
  const char* region;
  const char* kind;
};

class LayerKind : public ::testing::TestWithParam<KindCase> {};

TEST_P(LayerKind, HasNoNumbers) { EXPECT_EQ(layer_kind(GetParam().region), GetParam().kind); }

INSTANTIATE_TEST_SUITE_P(Table, LayerKind,
                         Values(KindCase{"nothing", "", "(no region)"},
                                KindCase{"a_stage", "DecodingStage", "DecodingStage"},
                                KindCase{"a_block", "transformer_blocks.3", "transformer_blocks"},
                                KindCase{"a_step_and_a_block",
                                         "DenoisingStage/step 12/single_transformer_blocks.37",
                                         "DenoisingStage/step/single_transformer_blocks"},
                                KindCase{"a_component", "text_encoder_2/encoder.block.0",
                                         "text_encoder_2/encoder.block"},
                                KindCase{"only_a_number", "7", "7"},
                                KindCase{"a_dot_and_a_number", ".7", ".7"},
                                KindCase{"a_number_inside", "blocks.3.attn", "blocks.3.attn"}),
                         [](const TestParamInfo<KindCase>& test) { return test.param.name; });

/// Two steps of two blocks and something after them, a stage of its own, a kernel of nobody.
std::vector<ops::KernelRecord> traced() {
  return {{"gemm", 1'000, 5'000, "Denoise/step 1/blocks.0"},
          {"norm", 5'000, 6'000, "Denoise/step 1/blocks.0"},
          {"gemm", 6'500, 10'500, "Denoise/step 1/blocks.1"},
          {"add", 11'000, 12'000, "Denoise/step 1"},
          {"gemm", 20'000, 24'000, "Denoise/step 2/blocks.0"},
          {"gemm", 23'000, 27'000, "Denoise/step 2/blocks.1"},  // begins before the last one ends
          {"add", 28'000, 29'000, "Denoise/step 2"},
          {"conv", 30'000, 31'000, "Decode"},
          {"fill", 40'000, 41'000, ""}};
}

constexpr Peaks kPeaks = {.gflop_per_second = 40'000, .gb_per_second = 2'000};

TEST(LayerTable, AddsUpKindsOfLayers) {
  // 16 us of gemm, 1 us of norm: 17 us for 170 MFLOP are 10 TFLOP/s.
  const WorkOfRegions work = {{"Denoise/step 1/blocks.0/linear", {.flops = 40'000'000}},
                              {"Denoise/step 1/blocks.1/linear", {.flops = 45'000'000}},
                              {"Denoise/step 2/blocks.0/linear", {.flops = 40'000'000}},
                              {"Denoise/step 2/blocks.1/linear", {.flops = 45'000'000}}};
  std::vector<ops::KernelRecord> kernels = traced();
  for (ops::KernelRecord& kernel : kernels) {
    if (kernel.name == "gemm") kernel.region += "/linear";
  }
  EXPECT_THAT(layer_table(kernels, work, kPeaks),
              AllOf(HasSubstr("layer"), HasSubstr("TFLOP/s"),
                    ContainsRegex("\nDenoise/step/blocks +4 +5 +0\\.017 +81\\.0 % +10\\.0 +25 %\n"),
                    ContainsRegex("\nDenoise/step +2 +2 +0\\.002 +9\\.5 %\n"),
                    ContainsRegex("\nDecode +1 +1 +0\\.001 +4\\.8 %\n"),
                    ContainsRegex("\n\\(no region\\) +1 +1 +0\\.001 +4\\.8 %\n")));
}

TEST(KernelTable, GroupsByOperation) {
  // 17 us for 170 MFLOP and 17 MB, 2 us for 1 MB.
  const WorkOfRegions work = {
      {"Denoise/step 1/blocks.0", {.flops = 90'000'000, .bytes = 9'000'000}},
      {"Denoise/step 2/blocks.1", {.flops = 80'000'000, .bytes = 8'000'000}},
      {"Denoise/step 1", {.bytes = 1'000'000}}};
  EXPECT_THAT(
      kernel_table(traced(), work, kPeaks),
      ContainsRegex("of copy\n"
                    "Denoise/step/blocks +5 +0\\.017 +81\\.0 % +10\\.0 +25 % +1\\.00 +50 %\n"
                    "  gemm +4 +4\\.0 +0\\.016 +76\\.2 %\n"
                    "  norm +1 +1\\.0 +0\\.001 +4\\.8 %\n"
                    "Denoise/step +2 +0\\.002 +9\\.5 % +0\\.50 +25 %\n"
                    "  add +2 +1\\.0 +0\\.002 +9\\.5 %\n"));
  EXPECT_THAT(kernel_table({}, {}, kPeaks), AllOf(HasSubstr("kernel"), Not(HasSubstr("region"))));
}

TEST(ChromeTrace, HasKernelsAndNestedLayers) {
  const auto json = nlohmann::json::parse(chrome_trace(traced()));
  using Slice = std::tuple<std::string, double, double>;
  std::vector<Slice> kernels;
  std::vector<Slice> layers;
  std::vector<std::string> layer_of_kernel;
  std::vector<std::string> tracks;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] == "M") {
      tracks.push_back(event["args"]["name"]);
      continue;
    }
    const Slice slice = {event["name"], event["ts"], event["dur"]};
    if (event["tid"] == 1) {
      layers.push_back(slice);
      continue;
    }
    kernels.push_back(slice);
    layer_of_kernel.push_back(event["args"]["layer"]);
  }
  EXPECT_THAT(tracks, ElementsAre("kernels", "layers"));
  EXPECT_EQ(kernels.size(), traced().size());
  EXPECT_EQ(kernels[2], (Slice{"gemm", 5.5, 4}));
  EXPECT_EQ(layer_of_kernel[2], "Denoise/step 1/blocks.1");
  EXPECT_EQ(layer_of_kernel.back(), "");
  EXPECT_THAT(layers, ElementsAre(Slice{"blocks.0", 0, 5}, Slice{"blocks.1", 5.5, 4},
                                  Slice{"step 1", 0, 11}, Slice{"blocks.0", 19, 3},
                                  Slice{"blocks.1", 22, 4}, Slice{"step 2", 19, 9},
                                  Slice{"Denoise", 0, 28}, Slice{"Decode", 29, 1}));
}

TEST(ChromeTrace, OfNothingIsATrace) {
  EXPECT_EQ(nlohmann::json::parse(chrome_trace({}))["traceEvents"].size(), 2U);
}

}  // namespace
}  // namespace dither::cli
