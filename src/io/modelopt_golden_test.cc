#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>

#include "io/safetensors.h"
#include "io/torch_file.h"
#include "tensor/bfloat16.h"

namespace dither {
namespace {

// tests/golden/modelopt: make_modelopt.py, versions in versions.json; flux1-mini in its README.
const std::filesystem::path kGolden =
    std::filesystem::path(DITHER_SOURCE_DIR) / "tests/golden/modelopt";

struct Golden {
  std::string folder;
  std::string export_folder;
  std::size_t quantized_layers = 0;
  std::string outside_linear;  ///< an enabled quantizer that is no Linear's; empty: there is none
};
void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.folder; }

std::unique_ptr<SafetensorsFile> open_export(const Golden& golden) {
  return SafetensorsFile::open(kGolden / golden.folder / golden.export_folder /
                               "diffusion_pytorch_model.safetensors");
}

std::unique_ptr<TorchFile> open_backbone(const Golden& golden) {
  return TorchFile::open(kGolden / golden.folder / "transformer.pt");
}

float scalar(const TensorSource& file, const std::string& name) {
  const Tensor value = file.read(name);
  EXPECT_EQ(value.shape(), Shape()) << name;
  if (value.dtype() == DType::kBF16) return to_float(*value.data<bf16>());
  EXPECT_EQ(value.dtype(), DType::kF32) << name;
  return *value.data<float>();
}

/// The layers with a scale in the export.
std::set<std::string> quantized_layers(const TensorSource& exported) {
  const std::string kSuffix = ".weight_scale";
  std::set<std::string> layers;
  for (const TensorInfo& info : exported.tensors()) {
    if (info.name.ends_with(kSuffix)) {
      layers.insert(info.name.substr(0, info.name.size() - kSuffix.size()));
    }
  }
  return layers;
}

class ModelOptGolden : public testing::TestWithParam<Golden> {};

// The .pt file has the weights as they were; every one of them is in the export, too.
TEST_P(ModelOptGolden, BackboneHoldsUnquantizedWeights) {
  const auto backbone = open_backbone(GetParam());
  const auto exported = open_export(GetParam());
  std::size_t amax = 0;
  for (const TensorInfo& info : backbone->tensors()) {
    EXPECT_EQ(info.dtype, DType::kBF16) << info.name;
    if (info.name.ends_with("_quantizer._amax")) {
      EXPECT_EQ(info.shape, Shape()) << info.name;
      EXPECT_GT(scalar(*backbone, info.name), 0) << info.name;
      ++amax;
      continue;
    }
    const TensorInfo* other = exported->find(info.name);
    ASSERT_NE(other, nullptr) << info.name;
    if (other->dtype == DType::kU8) continue;  // two FP4 codes a byte
    EXPECT_EQ(other->shape, info.shape) << info.name;
    if (other->dtype != DType::kBF16) continue;
    const Tensor ours = backbone->read(info.name);
    EXPECT_EQ(std::memcmp(ours.raw(), exported->read(info.name).raw(), ours.bytes()), 0)
        << info.name;
  }
  EXPECT_GT(amax, 2 * GetParam().quantized_layers) << "layers that were disabled have amax as well";
}

TEST_P(ModelOptGolden, BackboneEqualsBase) {
  const auto path = kGolden / GetParam().folder / "base/diffusion_pytorch_model.safetensors";
  if (!std::filesystem::exists(path)) return;  // not every golden has its own
  const auto base = SafetensorsFile::open(path);
  const auto backbone = open_backbone(GetParam());
  for (const TensorInfo& info : base->tensors()) {
    const TensorInfo* found = backbone->find(info.name);
    ASSERT_NE(found, nullptr) << info.name;
    EXPECT_EQ(found->shape, info.shape) << info.name;
    const Tensor ours = backbone->read(info.name);
    EXPECT_EQ(std::memcmp(ours.raw(), base->read(info.name).raw(), ours.bytes()), 0) << info.name;
  }
}

TEST_P(ModelOptGolden, QuantizersAreEnabledWhereTheExportHasScales) {
  const auto backbone = open_backbone(GetParam());
  const auto layers = quantized_layers(*open_export(GetParam()));
  EXPECT_EQ(layers.size(), GetParam().quantized_layers);
  ASSERT_TRUE(backbone->modelopt_state().has_value());
  const ModelOptState& state = *backbone->modelopt_state();
  EXPECT_THAT(state.version, testing::StartsWith("0.47.0"));
  std::set<std::string> enabled;
  for (const auto& [name, is_enabled] : state.quantizer_enabled) {
    const std::string suffix = ".weight_quantizer";
    if (is_enabled && name.ends_with(suffix)) {
      enabled.insert(name.substr(0, name.size() - suffix.size()));
    }
  }
  EXPECT_EQ(enabled, layers);
  for (const std::string& layer : layers) {
    EXPECT_TRUE(state.quantizer_enabled.at(layer + ".input_quantizer")) << layer;
  }
  EXPECT_FALSE(state.quantizer_enabled.at("proj_out.weight_quantizer"));
  EXPECT_TRUE(backbone->find("proj_out.weight_quantizer._amax") != nullptr);
  if (!GetParam().outside_linear.empty()) {
    EXPECT_TRUE(state.quantizer_enabled.at(GetParam().outside_linear));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, ModelOptGolden,
    testing::Values(
        Golden{"flux1-mini", "hf/transformer", 20, "transformer_blocks.0.norm2.input_quantizer"},
        Golden{"flux1-micro", "hf", 26, "single_transformer_blocks.1.norm.norm.input_quantizer"},
        Golden{"flux2-micro", "hf", 16, "single_transformer_blocks.1.norm.input_quantizer"},
        Golden{"wan-micro", "hf", 20, ""},
        Golden{"flux1-micro-nvfp4", "hf", 26, "transformer_blocks.0.norm1.norm.input_quantizer"}),
    [](const auto& tested) {
      std::string name = tested.param.folder;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

class ModelOptFp8Golden : public testing::TestWithParam<Golden> {};

// 448 is the largest E4M3 value: scale = amax / 448 in float32, for weights and inputs.
TEST_P(ModelOptFp8Golden, ScalesAreAmaxOver448) {
  const auto backbone = open_backbone(GetParam());
  const auto exported = open_export(GetParam());
  for (const std::string& layer : quantized_layers(*exported)) {
    EXPECT_EQ(exported->find(layer + ".weight")->dtype, DType::kF8E4M3) << layer;
    for (const std::string side : {"weight", "input"}) {
      const float amax = scalar(*backbone, layer + "." + side + "_quantizer._amax");
      EXPECT_EQ(scalar(*exported, layer + "." + side + "_scale"), amax / 448.0F) << layer << side;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Table, ModelOptFp8Golden,
                         testing::Values(Golden{"flux1-mini", "hf/transformer", 0, ""},
                                         Golden{"flux1-micro", "hf", 0, ""},
                                         Golden{"flux2-micro", "hf", 0, ""},
                                         Golden{"wan-micro", "hf", 0, ""}),
                         [](const auto& tested) {
                           std::string name = tested.param.folder;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// The README of the mini checkpoint lists these.
TEST(ModelOptMini, DisabledLayersStillHaveAmax) {
  const auto file = TorchFile::open(kGolden / "flux1-mini/transformer.pt");
  const auto& enabled = file->modelopt_state()->quantizer_enabled;
  for (const std::string layer :
       {"x_embedder", "context_embedder", "time_text_embed.timestep_embedder.linear_1",
        "time_text_embed.guidance_embedder.linear_2", "time_text_embed.text_embedder.linear_1",
        "norm_out.linear", "proj_out"}) {
    for (const std::string side : {".input_quantizer", ".weight_quantizer"}) {
      EXPECT_FALSE(enabled.at(layer + side)) << layer << side;
      EXPECT_NE(file->find(layer + side + "._amax"), nullptr) << layer << side;
    }
  }
  for (const std::string norm :
       {"transformer_blocks.0.norm1.norm", "transformer_blocks.0.norm1_context.norm",
        "transformer_blocks.0.norm2", "transformer_blocks.0.norm2_context",
        "single_transformer_blocks.0.norm.norm"}) {
    EXPECT_TRUE(enabled.at(norm + ".input_quantizer")) << norm;
    EXPECT_EQ(enabled.count(norm + ".weight_quantizer"), 0U) << norm;
  }
  EXPECT_TRUE(enabled.at("transformer_blocks.0.norm1.linear.weight_quantizer"));
  EXPECT_TRUE(enabled.at("single_transformer_blocks.0.norm.linear.weight_quantizer"));
}

// Wan's filter keeps the first blocks in 16 bits.
TEST(ModelOptWan, FirstBlocksAreNotQuantized) {
  const auto layers = quantized_layers(
      *SafetensorsFile::open(kGolden / "wan-micro/hf/diffusion_pytorch_model.safetensors"));
  for (const std::string& layer : layers) {
    EXPECT_TRUE(layer.starts_with("blocks.3.") || layer.starts_with("blocks.4.")) << layer;
  }
}

// 2688 = 6 * 448, the largest E2M1 value times the largest block scale.
TEST(ModelOptNvfp4, TwoLevelsOfScales) {
  const Golden golden{"flux1-micro-nvfp4", "hf", 26, ""};
  const auto backbone = open_backbone(golden);
  const auto exported = open_export(golden);
  for (const std::string& layer : quantized_layers(*exported)) {
    const TensorInfo* weight = backbone->find(layer + ".weight");
    const TensorInfo* codes = exported->find(layer + ".weight");
    const TensorInfo* scales = exported->find(layer + ".weight_scale");
    EXPECT_EQ(codes->dtype, DType::kU8) << layer;
    EXPECT_EQ(codes->shape, Shape({weight->shape[0], weight->shape[1] / 2})) << layer;
    EXPECT_EQ(scales->dtype, DType::kF8E4M3) << layer;
    EXPECT_EQ(scales->shape, Shape({weight->shape[0], weight->shape[1] / 16})) << layer;
    // q, k and v share the largest amax of the three; elsewhere the scale is the layer's own.
    const float own = scalar(*backbone, layer + ".weight_quantizer._amax") / 2688.0F;
    const float shared = scalar(*exported, layer + ".weight_scale_2");
    EXPECT_GE(shared, own * 0.9999F) << layer;
    const bool is_qkv =
        layer.find(".to_q") != std::string::npos || layer.find(".to_k") != std::string::npos ||
        layer.find(".to_v") != std::string::npos || layer.find(".add_") != std::string::npos;
    if (!is_qkv) {
      EXPECT_FLOAT_EQ(shared, own) << layer;
    }
    EXPECT_FLOAT_EQ(scalar(*exported, layer + ".input_scale"),
                    scalar(*backbone, layer + ".input_quantizer._amax") / 2688.0F)
        << layer;
  }
}

}  // namespace
}  // namespace dither
