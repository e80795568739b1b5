#include "io/quantized_checkpoint.h"

#include <gmock/gmock.h>

#include <functional>
#include <limits>
#include <map>

#include "base/test_util.h"
#include "io/component_weights.h"
#include "io/safetensors_writer.h"
#include "tensor/float8.h"
#include "tensor/host_floats.h"

namespace dither {
namespace {

using quant::Format;
using quant::LayerPlan;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::TestParamInfo;
using ::testing::Values;

using Tensors = std::map<std::string, Tensor>;

constexpr const char* kFp8Config = R"({"_class_name":"FluxTransformer2DModel",
    "quantization_config":{"quant_method":"modelopt","quant_algo":"FP8","ignore":["proj_out"]}})";
constexpr const char* kWeights = "diffusion_pytorch_model.safetensors";

Tensor number(float value, const Shape& shape = {}) {
  Tensor tensor = Tensor::host(shape, DType::kF32);
  std::fill_n(tensor.data<float>(), tensor.elements(), value);
  return tensor;
}

Tensor bytes(const Shape& shape, std::uint8_t value, DType dtype = DType::kU8) {
  Tensor tensor = Tensor::host(shape, dtype);
  std::fill_n(tensor.data<std::uint8_t>(), tensor.bytes(), value);
  return tensor;
}

Tensor text(std::string_view content) {
  Tensor tensor = Tensor::host({static_cast<std::int64_t>(content.size())}, DType::kU8);
  std::ranges::copy(content, tensor.data<char>());
  return tensor;
}

/// [4, 16] of codes for 1.0.
Tensor codes(std::uint8_t value = 0x38) { return bytes({4, 16}, value, DType::kF8E4M3); }
Tensor bf16_weight() { return Tensor::host({4, 16}, DType::kBF16); }

/// A component as ModelOpt exports it: one FP8 layer, one that is excluded.
Tensors exported() {
  return {{"blocks.0.to_q.weight", codes()},
          {"blocks.0.to_q.weight_scale", number(0.5F)},
          {"blocks.0.to_q.input_scale", number(0.25F)},
          {"blocks.0.to_q.bias", number(1, {4})},
          {"proj_out.weight", bf16_weight()}};
}

std::unique_ptr<QuantizedCheckpoint> open(const TempFolder& folder, const Tensors& tensors,
                                          const char* config,
                                          const std::map<std::string, std::string>& metadata = {},
                                          const WeightOverrides& overrides = {}) {
  if (config != nullptr) folder.write("config.json", config);
  write_safetensors(folder.path() / kWeights, tensors, metadata);
  return open_component_weights(folder.path(), kDiffusersStem, overrides);
}

std::vector<float> floats(const Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  read_floats(tensor, 0, values);
  return values;
}

TEST(QuantizedCheckpoint, ShowsLogicalTensorsAndGivesCodes) {
  const TempFolder folder;
  Tensors tensors = exported();
  tensors["blocks.0.to_q.output_quantizer._amax"] = number(1);  // a leftover
  const auto source = open(folder, tensors, kFp8Config);
  std::vector<std::string> names;
  for (const TensorInfo& info : source->tensors()) names.push_back(info.name);
  EXPECT_THAT(names, ElementsAre("blocks.0.to_q.bias", "blocks.0.to_q.weight", "proj_out.weight"));
  EXPECT_EQ(source->find("blocks.0.to_q.weight_scale"), nullptr);
  EXPECT_THAT(floats(source->read("blocks.0.to_q.weight")), Each(0.5F));

  const quant::LinearWeight linear = source->linear("blocks.0.to_q");
  EXPECT_EQ(linear.weight.dtype(), DType::kF8E4M3);
  EXPECT_EQ(linear.weight_scale, 0.5F);
  EXPECT_EQ(linear.input_scale, 0.25F);
  EXPECT_EQ(source->find_layer("blocks.0.to_q")->scale_source, "checkpoint");

  EXPECT_EQ(source->linear("proj_out").weight.dtype(), DType::kBF16);
  EXPECT_EQ(source->find_layer("proj_out")->fallback, "exclusion");
  EXPECT_TRUE(source->find_layer("proj_out")->declared);
  EXPECT_EQ(error_of([&] { source->linear("nowhere"); }).code(), ErrorCode::kNotFound);
}

TEST(QuantizedCheckpoint, PlainWeightsPassThrough) {
  const TempFolder folder;
  const auto source = open(folder, {{"a.weight", bf16_weight()}}, R"({"_class_name":"X"})");
  EXPECT_FALSE(source->config());
  EXPECT_EQ(source->linear("a").weight.dtype(), DType::kBF16);
  EXPECT_EQ(source->find_layer("a")->fallback, "");
}

struct Variant {
  const char* name;
  std::function<void(Tensors&)> change;
  const char* message;  ///< of the error for blocks.0.to_q; empty: there is none
  const char* config = kFp8Config;
};

void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

class Fp8Layer : public ::testing::TestWithParam<Variant> {};

TEST_P(Fp8Layer, IsExactlyAsDeclared) {
  const TempFolder folder;
  Tensors tensors = exported();
  GetParam().change(tensors);
  const Error error = error_of([&] {
    const auto source = open(folder, tensors, GetParam().config);
    const std::string layers[] = {"blocks.0.to_q", "proj_out"};
    source->check_linears(layers);
    source->linear("blocks.0.to_q");
  });
  if (*GetParam().message == '\0') {
    EXPECT_STREQ(error.what(), "no error");
    return;
  }
  EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
  EXPECT_THAT(error.what(), AllOf(HasSubstr(kWeights), HasSubstr(GetParam().message)));
}

void put(Tensors& tensors, const char* name, Tensor tensor) {
  tensors[std::string("blocks.0.to_q.") + name] = std::move(tensor);
}
void drop(Tensors& tensors, const char* name) {
  tensors.erase(std::string("blocks.0.to_q.") + name);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Fp8Layer,
    Values(Variant{"native", [](Tensors&) {}, ""},
           Variant{"scales_of_shape_1",
                   [](Tensors& all) {
                     put(all, "weight_scale", number(1, {1}));
                     put(all, "input_scale", number(1, {1, 1}));
                   },
                   ""},
           Variant{"comfy_names",
                   [](Tensors& all) {
                     put(all, "scale_weight", number(1));
                     put(all, "scale_input", number(1));
                     drop(all, "weight_scale");
                     drop(all, "input_scale");
                   },
                   ""},
           Variant{"no_weight_scale", [](Tensors& all) { drop(all, "weight_scale"); },
                   "'blocks.0.to_q' is F8_E4M3 without a weight_scale"},
           Variant{"no_input_scale", [](Tensors& all) { drop(all, "input_scale"); },
                   "'blocks.0.to_q' is F8_E4M3 without an input_scale"},
           Variant{"nan_scale",
                   [](Tensors& all) {
                     put(all, "weight_scale", number(std::numeric_limits<float>::quiet_NaN()));
                   },
                   "weight_scale nan"},
           Variant{"infinite_scale",
                   [](Tensors& all) {
                     put(all, "input_scale", number(std::numeric_limits<float>::infinity()));
                   },
                   "input_scale inf"},
           Variant{"zero_scale", [](Tensors& all) { put(all, "weight_scale", number(0)); },
                   "weight_scale 0"},
           Variant{"negative_scale", [](Tensors& all) { put(all, "input_scale", number(-1)); },
                   "input_scale -1"},
           Variant{"multi_element_scale",
                   [](Tensors& all) { put(all, "weight_scale", number(1, {4})); },
                   "weight_scale F32 [4], expected one number"},
           Variant{"integer_scale", [](Tensors& all) { put(all, "weight_scale", bytes({}, 1)); },
                   "weight_scale U8 []"},
           Variant{"16_bit_weight_with_scales",
                   [](Tensors& all) { put(all, "weight", bf16_weight()); },
                   "is BF16, but has a weight_scale"},
           Variant{"16_bit_weight",
                   [](Tensors& all) {
                     put(all, "weight", bf16_weight());
                     drop(all, "weight_scale");
                     drop(all, "input_scale");
                   },
                   "is BF16 without scales, but declared fp8"},
           Variant{"integer_weight",
                   [](Tensors& all) { put(all, "weight", Tensor::host({4, 16}, DType::kI8)); },
                   "is I8"},
           Variant{"e5m2_weight",
                   [](Tensors& all) { put(all, "weight", bytes({4, 16}, 0, DType::kF8E5M2)); },
                   "is F8_E5M2"},
           Variant{"undeclared", [](Tensors&) {}, "nothing declares a quantization", "{}"},
           Variant{"other_format", [](Tensors&) {}, "declared nvfp4",
                   R"({"quantization_config":{"quant_algo":"NVFP4"}})"},
           Variant{"scales_of_an_excluded_layer",
                   [](Tensors& all) { all["proj_out.input_scale"] = number(1); },
                   "'proj_out' is BF16, but has an input_scale"},
           Variant{"scale_without_weight",
                   [](Tensors& all) { all["blocks.1.weight_scale"] = number(1); },
                   "'blocks.1.weight_scale' belongs to no weight"},
           Variant{"smoothing",
                   [](Tensors& all) { put(all, "input_quantizer._pre_quant_scale", number(1)); },
                   "_pre_quant_scale"},
           Variant{
               "fp8_convolution",
               [](Tensors& all) { all["conv.weight"] = bytes({1, 1, 3, 3}, 0, DType::kF8E4M3); },
               "'conv.weight' is F8_E4M3 [1, 1, 3, 3]"}),
    [](const TestParamInfo<Variant>& test) { return std::string(test.param.name); });

TEST(QuantizedCheckpoint, Fp8OfAnExcludedLayerIsDequantized) {
  const TempFolder folder;
  Tensors tensors = exported();
  tensors["proj_out.weight"] = codes(0xC0);  // -2
  tensors["proj_out.weight_scale"] = number(3);
  const auto source = open(folder, tensors, kFp8Config);
  const quant::LinearWeight linear = source->linear("proj_out");
  EXPECT_FALSE(linear.weight_scale);
  EXPECT_THAT(floats(linear.weight), Each(-6.0F));
  EXPECT_EQ(source->find_layer("proj_out")->fallback_detail, "pattern 'proj_out', dequantized");
}

TEST(QuantizedCheckpoint, ProfileFallbackIsKnownButNotDeclared) {
  const TempFolder folder;
  Tensors tensors = exported();
  tensors["transformer_blocks.0.ff.net.2.weight"] = bf16_weight();
  const auto source = open(folder, tensors, kFp8Config);
  const LayerPlan* plan = source->find_layer("transformer_blocks.0.ff.net.2");
  EXPECT_EQ(plan->problem, "");
  EXPECT_EQ(plan->fallback, "profile flux1");
  EXPECT_FALSE(plan->declared);
}

TEST(QuantizedCheckpoint, DeclarationMayStandInTheFilesMetadata) {
  const TempFolder folder;
  const std::string declared = R"({"quant_algo":"FP8","ignore":["proj_out"]})";
  const auto source =
      open(folder, exported(), R"({"_class_name":"X"})",
           {{"quantization_config", declared}, {"_quantization_metadata", declared}});
  EXPECT_EQ(source->find_layer("blocks.0.to_q")->format, Format::kFp8);
  const Error error = error_of([&] {
    open(folder, exported(), R"({"quantization_config":{"quant_algo":"NVFP4"}})",
         {{"quantization_config", declared}});
  });
  EXPECT_THAT(error.what(),
              AllOf(HasSubstr("config.json"), HasSubstr("metadata"), HasSubstr("contradict")));
}

TEST(QuantizedCheckpoint, OverridingWeightsGoBeforeTheComponent) {
  const TempFolder component;
  const TempFolder weights;
  open(component, {{"proj_out.weight", bf16_weight()}}, R"({"_class_name":"X"})");
  open(weights, exported(), kFp8Config);
  const auto source = open_component_weights(component.path(), kDiffusersStem,
                                             {.weights = weights.path(), .modelopt_backbone = {}});
  EXPECT_EQ(source->find_layer("blocks.0.to_q")->format, Format::kFp8);
}

TEST(QuantizedCheckpoint, OverridingFolderMustLeaveNoChoice) {
  const TempFolder folder;
  const auto selected = [&] { return select_weights(folder.path()).filename().string(); };
  EXPECT_EQ(error_of([&] { selected(); }).code(), ErrorCode::kNotFound);
  folder.write("flux.fp16.safetensors", "");
  EXPECT_EQ(selected(), "flux.fp16.safetensors");
  folder.write("flux.safetensors", "");
  EXPECT_EQ(selected(), "flux.safetensors");
  folder.write("other.safetensors", "");
  EXPECT_THAT(error_of([&] { selected(); }).what(),
              AllOf(HasSubstr("flux.safetensors"), HasSubstr("other.safetensors")));
  folder.write("flux-mixed.safetensors", "");
  EXPECT_EQ(selected(), "flux-mixed.safetensors");
}

TEST(ComfyMarkers, DeclareLayersOneByOne) {
  const TempFolder folder;
  Tensors tensors = exported();
  tensors["blocks.0.to_q.comfy_quant"] = text(R"({"format":"float8_e4m3fn"})");
  const auto source = open(folder, tensors, nullptr);
  EXPECT_EQ(source->find_layer("blocks.0.to_q")->format, Format::kFp8);
  EXPECT_EQ(source->find_layer("proj_out")->fallback, "exclusion");
  tensors["proj_out.comfy_quant"] = text(R"({"format":"nvfp4"})");
  EXPECT_THAT(error_of([&] { open(folder, tensors, kFp8Config); }).what(), HasSubstr("proj_out"));
}

TEST(ComfyMarkers, ScaledFp8StoresWeightsOnlyWithoutScaleInput) {
  const TempFolder folder;
  Tensors tensors = {{"a.weight", codes()},
                     {"a.scale_weight", number(2)},
                     {"b.weight", bf16_weight()},
                     {"scaled_fp8", bytes({2}, 0, DType::kF8E4M3)}};
  const auto source = open(folder, tensors, nullptr);
  const quant::LinearWeight linear = source->linear("a");
  EXPECT_EQ(linear.weight_scale, 2.0F);
  EXPECT_FALSE(linear.input_scale);
  EXPECT_EQ(source->find_layer("a")->fallback, "weight-only storage");
  tensors["scaled_fp8"] = bytes({2}, 0, DType::kF8E5M2);
  EXPECT_EQ(error_of([&] { open(folder, tensors, nullptr); }).code(), ErrorCode::kUnsupported);
}

constexpr const char* kNvfp4Config = R"({"quantization_config":{"quant_algo":"NVFP4"}})";

/// [4, 32]: nibbles 2 (1.0) and 4 (2.0), block scales 1.0 and 2.0 (0x38, 0x40).
Tensors nvfp4() {
  Tensors tensors = {{"a.weight", bytes({4, 16}, 0x42)},
                     {"a.weight_scale", bytes({4, 2}, 0x38, DType::kF8E4M3)},
                     {"a.weight_scale_2", number(0.5F)},
                     {"a.input_scale", number(1)}};
  for (int n = 0; n < 4; ++n) tensors["a.weight_scale"].data<std::uint8_t>()[2 * n + 1] = 0x40;
  return tensors;
}

TEST(Nvfp4Layer, IsExpandedAndKeepsItsScale) {
  const TempFolder folder;
  const auto source = open(folder, nvfp4(), kNvfp4Config);
  EXPECT_EQ(source->find("a.weight")->shape, (Shape{4, 32}));
  const quant::LinearWeight linear = source->linear("a");
  EXPECT_EQ(linear.weight.dtype(), DType::kBF16);
  EXPECT_EQ(linear.weight_scale, 0.5F);
  EXPECT_EQ(linear.input_scale, 1.0F);
  EXPECT_EQ(linear.format, Format::kNvfp4);
  const std::vector<float> values = floats(linear.weight);
  EXPECT_THAT(std::vector(values.begin(), values.begin() + 2), ElementsAre(1.0F, 2.0F));
  EXPECT_THAT(std::vector(values.begin() + 16, values.begin() + 18), ElementsAre(2.0F, 4.0F));
  EXPECT_EQ(floats(source->read("a.weight"))[0], 0.5F);
}

TEST(Nvfp4Layer, ForeignPackingIsHighNibbleFirstInTiles) {
  const TempFolder folder;
  Tensors tensors = nvfp4();
  tensors["a.comfy_quant"] = text(R"({"format":"nvfp4"})");
  tensors["a.weight_scale"] = bytes({128, 4}, 0, DType::kF8E4M3);
  for (int n = 0; n < 4; ++n) {
    for (int c = 0; c < 2; ++c) {
      tensors["a.weight_scale"].data<std::uint8_t>()[quant::nvfp4_swizzled_index(n, c, 2)] =
          c == 0 ? 0x38 : 0x40;
    }
  }
  for (const bool swap : {true, false}) {
    const std::string config =
        swap ? kNvfp4Config : R"({"quantization_config":{"quant_algo":"NVFP4",
                                          "swap_weight_nibbles":false}})";
    const auto source = open(folder, tensors, config.c_str());
    const std::vector<float> values = floats(source->linear("a").weight);
    EXPECT_THAT(std::vector(values.begin() + 15, values.begin() + 17),
                ElementsAre(swap ? 1.0F : 2.0F, swap ? 4.0F : 2.0F));
  }
}

TEST(Nvfp4Layer, RefusesWhatDoesNotFit) {
  const struct {
    const char* name;
    Tensor tensor;  ///< absent: removed
    const char* message;
  } table[] = {
      {"a.weight_scale", {}, "without block scales"},
      {"a.weight_scale", number(1), "without block scales"},
      {"a.weight_scale", bytes({4, 1}, 0x38, DType::kF8E4M3), "block scales [4, 1]"},
      {"a.weight_scale_2", {}, "without a weight_scale_2"},
      {"a.weight_scale_2", number(0), "weight_scale_2 0"},
      {"a.input_scale", number(-1), "input_scale -1"},
      {"a.weight", bytes({4, 7}, 0), "is NVFP4 [4, 14]"},
      {"a.weight", bf16_weight(), "is BF16, but has a weight_scale"},
      {"a.weight", codes(), "declared nvfp4"},
  };
  for (const auto& row : table) {
    const TempFolder folder;
    Tensors tensors = nvfp4();
    tensors.erase(row.name);
    if (row.tensor.defined()) tensors[row.name] = row.tensor;
    EXPECT_THAT(error_of([&] { open(folder, tensors, kNvfp4Config)->linear("a"); }).what(),
                AllOf(HasSubstr("'a'"), HasSubstr(row.message)))
        << row.name;
  }
}

}  // namespace
}  // namespace dither
