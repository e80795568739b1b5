#include "pipelines/attestation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "pipelines/pipeline.h"

namespace dither {
namespace {

using quant::Format;

LayerAttestation layer(const char* name, DType resident, DType product,
                       std::optional<double> weight_error = {}) {
  return {.executed = {.name = name,
                       .resident = resident,
                       .product = product,
                       .kernel = "k",
                       .weight_error = weight_error},
          .plan = {.name = name}};
}

TEST(Attestation, SummarizesWhatLiesInMemoryAndItsError) {
  ComponentAttestation component{.component = "transformer", .declared_by = "", .layers = {}};
  component.layers = {layer("a", DType::kBF16, DType::kBF16)};
  EXPECT_EQ(summarize(component), "transformer: 1 BF16, 0 silent");
  component.layers.push_back(layer("b", DType::kF8E4M3, DType::kBF16));
  EXPECT_EQ(summarize(component), "transformer: 1 BF16, 1 BF16 of FP8 weights, 0 silent");
  component.layers.push_back(layer("c", DType::kF8E4M3, DType::kF8E4M3, 0.01));
  component.layers.push_back(layer("d", DType::kF8E4M3, DType::kF8E4M3, 0.03));
  EXPECT_EQ(summarize(component),
            "transformer: 1 BF16, 1 BF16 of FP8 weights, 2 FP8, 0 silent, 2 quantized on load "
            "(relative error of the weights: mean 0.0200, largest 0.0300, d)");
}

TEST(Attestation, JsonTellsTheScaleThatIsInForce) {
  LayerAttestation expanded = layer("a", DType::kBF16, DType::kBF16);
  expanded.plan.weight_scale = 0.5F;  // multiplied into the weight on load
  LayerAttestation requantized = layer("b", DType::kF8E4M3, DType::kBF16, 0.25);
  requantized.plan.weight_scale = 0.5F;  // of the NVFP4 that it was
  requantized.executed.weight_scale = 4.0F;
  LayerAttestation rows = layer("c", DType::kF8E4M3, DType::kBF16, 0.125);  // a scale per row
  const auto json =
      to_json(ComponentAttestation{"transformer", "", {expanded, requantized, rows}})["layers"];
  EXPECT_EQ(json[0]["weight_scale"], 0.5);
  EXPECT_TRUE(json[0]["weight_error"].is_null());
  EXPECT_EQ(json[1]["weight_scale"], 4.0);
  EXPECT_EQ(json[1]["weight_error"], 0.25);
  EXPECT_EQ(json[1]["resident"], "F8_E4M3");
  EXPECT_EQ(json[1]["executed"], "BF16");
  EXPECT_TRUE(json[2]["weight_scale"].is_null());
}

TEST(WeightPrecision, IsNamedByItsOptions) {
  EXPECT_EQ(weight_precision_name({}), "default");
  PipelineOptions options;
  options.fp8_text_encoder = true;
  EXPECT_EQ(weight_precision_name(options), "text-encoder-precision=fp8");
  options.policy = {.keep_fp8 = true, .nvfp4_as_fp8 = true};
  EXPECT_EQ(weight_precision_name(options),
            "weight-only-fp8=keep,nvfp4-as=fp8,text-encoder-precision=fp8");
  options = {};
  options.vae = VaePrecision::kF32;
  EXPECT_EQ(weight_precision_name(options), "vae-precision=f32");
  options.vae_tiling = true;
  EXPECT_EQ(weight_precision_name(options), "vae-precision=f32,vae-tiling");
}

}  // namespace
}  // namespace dither
