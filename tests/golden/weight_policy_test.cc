// Weights that lie in memory in another format than in the checkpoint: ModelOpt's NVFP4 export as
// FP8, weight-only FP8 kept, 16-bit weights made FP8 on load.
#include "quant/weight_policy.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <random>

#include "golden/golden.h"
#include "io/component_weights.h"
#include "models/flux1/transformer.h"
#include "pipelines/attestation.h"
#include "pipelines/flux1/flux1_configs.h"
#include "quant/fp8.h"

namespace dither::golden {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::filesystem::path kNvfp4 = source_dir() / "tests/golden/modelopt/flux1-micro-nvfp4/hf";
const std::filesystem::path kBase = source_dir() / "tests/golden/modelopt/flux1-micro/base";
constexpr models::TokenGrid kGrid = {4, 3};

/// One call of a micro FLUX.1 transformer with made-up inputs.
struct Forward {
  std::vector<float> output;
  std::size_t weight_bytes = 0;  ///< of linear layers, resident
  ComponentAttestation attestation;
};

/// Adds up what linear layers hold in memory.
class ResidentBytes final : public ops::LinearProbe {
 public:
  void on_linear(const ops::PreparedLinear& weights, const Tensor& /*x*/,
                 const ops::LinearEpilogue& /*epilogue*/, const Tensor& /*y*/) override {
    bytes += weights.resident_bytes();
  }
  std::size_t bytes = 0;
};

Forward run(const std::filesystem::path& folder, std::string_view backend_name, DType dtype,
            quant::WeightPolicy policy) {
  const auto source = open_component_weights(folder, kDiffusersStem);
  const auto backend = make_backend(backend_name);
  const auto config = parse_flux1_config(JsonConfig::load(folder / "config.json"));
  std::vector<ops::LinearPrecision> precision;
  const models::Flux1Transformer transformer(
      nn::WeightScope(*source, *backend, dtype, &precision, policy), config);
  std::mt19937 random(5);
  const auto input = [&](const Shape& shape) {
    std::normal_distribution<float> normal;
    Tensor host = Tensor::host(shape, DType::kF32);
    std::generate_n(host.data<float>(), host.elements(), [&] { return normal(random); });
    return backend->upload(host, dtype);
  };
  ResidentBytes bytes;
  backend->set_linear_probe(&bytes);
  const auto conditioning = transformer.prepare({.prompt_embeds = input({1, 7, 32}),
                                                 .pooled_prompt_embeds = input({1, 16}),
                                                 .timesteps = {700},
                                                 .guidance_scale = 3.5F,
                                                 .grid = kGrid});
  const Tensor y = transformer.velocity(input({1, 12, 16}), conditioning, 0);
  return {to_floats(y), bytes.bytes, attest("transformer", "config.json", precision, *source)};
}

double relative_l2(const Forward& actual, const Forward& expected) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < expected.output.size(); ++i) {
    difference += std::pow(double{actual.output[i]} - expected.output[i], 2);
    norm += std::pow(double{expected.output[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

class WeightPolicy : public testing::TestWithParam<std::string> {};

// The layers are calibrated, so they run in FP8 too. Each output is off by the error of its weight
// (at most 1/21, see weight_policy_test.cc of quant) and of its input in E4M3 (at most 1/16). 26
// layers in 3 blocks: no path from input to output is longer than 3 * 4 layers, and errors of
// different layers add as squares: sqrt(12 * (1/21^2 + 1/16^2)) = 0.27.
TEST_P(WeightPolicy, Nvfp4RunsInFp8) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Forward exact = run(kNvfp4, GetParam(), dtype, {});
    const Forward fp8 = run(kNvfp4, GetParam(), dtype, {.nvfp4_as_fp8 = true});
    const double error = relative_l2(fp8, exact);
    const DType product = product_dtype(GetParam(), dtype);
    RecordProperty(fmt::format("{} {}", GetParam(), dtype_name(dtype)), std::to_string(error));
    EXPECT_GT(error, 0);
    EXPECT_LT(error, 0.27);
    EXPECT_EQ(
        summarize(exact.attestation),
        fmt::format("transformer: 26 {0}, 10 {0} by exclusion, 0 silent", dtype_name(product)));
    EXPECT_THAT(summarize(fp8.attestation),
                StartsWith(fmt::format("transformer: 26 FP8, 10 {} by exclusion, 0 silent, 26 "
                                       "quantized on load (relative error of the weights: mean 0.0",
                                       dtype_name(product))));
    EXPECT_NO_THROW(require_declared_precision(fp8.attestation));
  }
}

// The same numbers, multiplied by themselves: what is kept as codes is no approximation.
TEST_P(WeightPolicy, PlainWeightsAsFp8AreOffByTheirCodesOnly) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Forward exact = run(kBase, GetParam(), dtype, {});
    const Forward fp8 = run(kBase, GetParam(), dtype, {.plain_as_fp8 = true});
    const double error = relative_l2(fp8, exact);
    const DType product = product_dtype(GetParam(), dtype);
    RecordProperty(fmt::format("{} {}", GetParam(), dtype_name(dtype)), std::to_string(error));
    EXPECT_GT(error, 0);
    EXPECT_LT(error, std::sqrt(12.0) / 16);  // as above, without errors of the inputs
    EXPECT_THAT(summarize(fp8.attestation),
                StartsWith(fmt::format("transformer: 36 {}{}, 0 silent, 36 quantized on load "
                                       "(relative error of the weights: mean 0.02",
                                       dtype_name(product),
                                       GetParam() == "reference" ? "" : " of FP8 weights")));
    for (const LayerAttestation& layer : fp8.attestation.layers) {
      EXPECT_LT(layer.executed.weight_error.value_or(1), 0x1p-4) << layer.executed.name;
      EXPECT_THAT(layer.executed.kernel, HasSubstr("e4m3 weights"));
      EXPECT_EQ(layer.executed.product, product);
    }
    if (GetParam() != "reference") {  // which holds float32
      EXPECT_LT(fp8.weight_bytes, exact.weight_bytes);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, WeightPolicy, testing::ValuesIn(backends()), backend_name);

TEST(WeightPolicyErrors, OfTheExportAreSmallerThanByAmax) {
  const auto source = open_component_weights(kNvfp4, kDiffusersStem);
  double worst = 0;
  double worst_by_amax = 0;
  for (const quant::LayerPlan& plan : source->layers()) {
    if (plan.format != quant::Format::kNvfp4) continue;
    EXPECT_TRUE(plan.input_scale) << plan.name;
    quant::LinearWeight weight = source->linear(plan.name);
    const std::vector<float> values = to_floats(weight.weight);
    std::vector<std::uint8_t> codes(values.size());
    std::vector<float> back(values.size());
    const float scale = quant::fp8_scale(quant::amax(values), plan.name);
    quant::quantize_weight_e4m3(values, scale, codes);
    quant::dequantize_e4m3(codes, scale, back);
    double difference = 0;
    double norm = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      difference += std::pow(double{back[i]} - values[i], 2);
      norm += std::pow(double{values[i]}, 2);
    }
    quant::apply_policy({.nvfp4_as_fp8 = true}, {&weight, 1});
    const double error = weight.weight_error.value_or(1);
    worst = std::max(worst, error);
    worst_by_amax = std::max(worst_by_amax, std::sqrt(difference / norm));
  }
  RecordProperty("largest", std::to_string(worst));
  RecordProperty("largest with amax / 448", std::to_string(worst_by_amax));
  EXPECT_LT(worst, 1.0 / 21);
  EXPECT_LT(worst, worst_by_amax);
}

}  // namespace
}  // namespace dither::golden
