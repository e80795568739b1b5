// The micro transformers of tests/golden in diffusers' and in BFL's layout: both must load as the
// same.
#include "io/bfl_names.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "base/test_util.h"
#include "io/bfl_names_test_util.h"
#include "io/component_weights.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "quant/nvfp4.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kWeights = "diffusion_pytorch_model.safetensors";
constexpr const char* kFluxConfig = R"({"_class_name":"FluxTransformer2DModel"})";
constexpr const char* kNvfp4Config = R"({"_class_name":"FluxTransformer2DModel",
    "quantization_config":{"quant_algo":"NVFP4","ignore":["*embed*","proj_out"]}})";

constexpr const char* kFlux2Config = R"({"_class_name":"Flux2Transformer2DModel"})";
constexpr const char* kFlux2Nvfp4Config = R"({"_class_name":"Flux2Transformer2DModel",
    "quantization_config":{"quant_algo":"NVFP4",
                           "ignore":["*embed*","proj_out","*stream_modulation*"]}})";

/// Width 32: the parts of a fused matrix do not end at the 128 rows of a scale tile.
NamedTensors micro_flux() {
  constexpr std::string_view kPrefix = "flux_schnell.weights.";
  const auto file = SafetensorsFile::open(std::filesystem::path(DITHER_SOURCE_DIR) /
                                          "tests/golden/micro.safetensors");
  NamedTensors weights;
  for (const auto& [name, tensor] : read_all(*file)) {
    if (name.starts_with(kPrefix)) weights[name.substr(kPrefix.size())] = tensor;
  }
  return weights;
}

NamedTensors micro_flux2() {
  return read_all(*SafetensorsFile::open(
      std::filesystem::path(DITHER_SOURCE_DIR) /
      "tests/golden/flux2/dev/transformer/diffusion_pytorch_model.safetensors"));
}

Tensor number(float value) {
  Tensor tensor = Tensor::host({}, DType::kF32);
  *tensor.data<float>() = value;
  return tensor;
}

/// Arbitrary codes, none of them E4M3's NaN.
Tensor codes(const Shape& shape, DType dtype, unsigned seed) {
  Tensor tensor = Tensor::host(shape, dtype);
  for (std::size_t i = 0; i < tensor.bytes(); ++i) {
    seed = seed * 1664525U + 1013904223U;
    tensor.data<std::uint8_t>()[i] = static_cast<std::uint8_t>((seed >> 24) & 0x77U);
  }
  return tensor;
}

/// Every matrix of the blocks and the output's modulation.
std::vector<std::string> quantized_layers(const NamedTensors& weights) {
  constexpr std::string_view kWeight = ".weight";
  std::vector<std::string> layers;
  for (const auto& [name, tensor] : weights) {
    if (tensor.rank() != 2 || !(name.find("blocks.") != name.npos || name.starts_with("norm_out")))
      continue;
    layers.push_back(name.substr(0, name.size() - kWeight.size()));
  }
  return layers;
}

NamedTensors scaled_fp8(NamedTensors weights) {
  unsigned seed = 1;
  for (const std::string& layer : quantized_layers(weights)) {
    Tensor& weight = weights[layer + ".weight"];
    weight = codes(weight.shape(), DType::kF8E4M3, seed++);
    weights[layer + ".scale_weight"] = number(0.5F);
    if (layer.find("ff.") != layer.npos) weights[layer + ".scale_input"] = number(0.25F);
  }
  return weights;
}

/// ModelOpt's packing: low nibble first, scales row by row.
NamedTensors nvfp4(NamedTensors weights) {
  unsigned seed = 1;
  for (const std::string& layer : quantized_layers(weights)) {
    Tensor& weight = weights[layer + ".weight"];
    const std::int64_t n = weight.dim(0);
    const std::int64_t k = weight.dim(1);
    weight = codes({n, k / 2}, DType::kU8, seed++);
    weights[layer + ".weight_scale"] = codes({n, k / 16}, DType::kF8E4M3, seed++);
    weights[layer + ".weight_scale_2"] = number(0.125F);
  }
  return weights;
}

/// From ModelOpt's packing to BFL's.
void repack(NamedTensors& weights) {
  for (auto& [name, tensor] : weights) {
    if (tensor.dtype() == DType::kU8) {
      Tensor swapped = Tensor::host(tensor.shape(), DType::kU8);
      std::transform(tensor.data<std::uint8_t>(), tensor.data<std::uint8_t>() + tensor.bytes(),
                     swapped.data<std::uint8_t>(), [](std::uint8_t byte) {
                       return static_cast<std::uint8_t>(byte << 4 | byte >> 4);
                     });
      tensor = swapped;
    } else if (name.ends_with(".weight_scale")) {
      const std::int64_t rows = tensor.dim(0);
      const std::int64_t cols = tensor.dim(1);
      Tensor tiles = Tensor::host({(rows + 127) / 128 * 128, (cols + 3) / 4 * 4}, DType::kF8E4M3);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < cols; ++c) {
          tiles.data<std::uint8_t>()[quant::nvfp4_swizzled_index(r, c, cols)] =
              tensor.data<std::uint8_t>()[r * cols + c];
        }
      }
      tensor = tiles;
    }
  }
}

std::unique_ptr<QuantizedCheckpoint> open(const TempFolder& folder, const NamedTensors& weights,
                                          const char* config,
                                          const std::map<std::string, std::string>& metadata = {}) {
  folder.write("config.json", config);
  write_safetensors(folder.path() / kWeights, weights, metadata);
  return open_component_weights(folder.path(), kDiffusersStem);
}

void expect_same(const Tensor& a, const Tensor& b, const std::string& name) {
  ASSERT_EQ(a.dtype(), b.dtype()) << name;
  ASSERT_EQ(a.shape(), b.shape()) << name;
  EXPECT_EQ(std::memcmp(a.raw(), b.raw(), a.bytes()), 0) << name;
}

/// Same tensors, same plans, same operands of every product, bit for bit.
void expect_same(const QuantizedCheckpoint& a, const QuantizedCheckpoint& b) {
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const TensorInfo& info : a.tensors()) {
    ASSERT_NE(b.find(info.name), nullptr) << info.name;
    EXPECT_EQ(b.find(info.name)->shape, info.shape) << info.name;
    expect_same(a.read(info.name), b.read(info.name), info.name);
  }
  ASSERT_EQ(a.layers().size(), b.layers().size());
  for (std::size_t i = 0; i < a.layers().size(); ++i) {
    const quant::LayerPlan& plan = a.layers()[i];
    EXPECT_EQ(plan.name, b.layers()[i].name);
    EXPECT_EQ(plan.format, b.layers()[i].format) << plan.name;
    EXPECT_EQ(plan.fallback, b.layers()[i].fallback) << plan.name;
    ASSERT_EQ(plan.problem, "") << plan.name;
    ASSERT_EQ(b.layers()[i].problem, "") << plan.name;
    const quant::LinearWeight left = a.linear(plan.name);
    const quant::LinearWeight right = b.linear(plan.name);
    expect_same(left.weight, right.weight, plan.name);
    EXPECT_EQ(left.weight_scale, right.weight_scale) << plan.name;
    EXPECT_EQ(left.input_scale, right.input_scale) << plan.name;
  }
}

struct Family {
  const char* name;
  NamedTensors (*weights)();
  NamedTensors (*to_bfl)(const NamedTensors& diffusers, const std::string& prefix);
  const char* config;
  const char* nvfp4_config;
  const char* scaled_layer;  ///< one with a scale for its input
};

constexpr Family kFlux1 = {"flux1",     micro_flux,   to_bfl_flux1,
                           kFluxConfig, kNvfp4Config, "transformer_blocks.0.ff.net.2"};
constexpr Family kFlux2 = {"flux2",      micro_flux2,       to_bfl_flux2,
                           kFlux2Config, kFlux2Nvfp4Config, "transformer_blocks.0.ff.linear_out"};

class BflNames : public ::testing::TestWithParam<std::tuple<Family, const char*>> {
 protected:
  const Family& family() const { return std::get<0>(GetParam()); }
  std::string prefix() const { return std::get<1>(GetParam()); }
  NamedTensors to_bfl(const NamedTensors& weights) const {
    return family().to_bfl(weights, prefix());
  }
  TempFolder diffusers_;
  TempFolder bfl_;
};

TEST_P(BflNames, SixteenBitWeightsAreTheSame) {
  const NamedTensors weights = family().weights();
  NamedTensors single_file = to_bfl(weights);
  EXPECT_LT(single_file.size(), weights.size());
  single_file["vae.decoder.conv_in.weight"] = number(1);  // as in Comfy's all-in-one files
  expect_same(*open(diffusers_, weights, family().config),
              *open(bfl_, single_file, family().config));
}

TEST_P(BflNames, ScaledFp8IsTheSame) {
  NamedTensors weights = scaled_fp8(family().weights());
  NamedTensors single_file = to_bfl(weights);
  weights["scaled_fp8"] = codes({2}, DType::kF8E4M3, 0);
  single_file[prefix() + "scaled_fp8"] = codes({2}, DType::kF8E4M3, 0);
  const auto source = open(bfl_, single_file, family().config);
  expect_same(*open(diffusers_, weights, family().config), *source);
  EXPECT_EQ(source->find_layer("transformer_blocks.1.attn.add_k_proj")->fallback,
            "weight-only storage");
  EXPECT_EQ(source->find_layer(family().scaled_layer)->input_scale, 0.25F);
}

TEST_P(BflNames, PackedNvfp4IsTheSame) {
  const NamedTensors weights = nvfp4(family().weights());
  NamedTensors single_file = to_bfl(weights);
  repack(single_file);
  const auto reference = open(diffusers_, weights, family().nvfp4_config);
  expect_same(*reference, *open(bfl_, single_file, family().nvfp4_config));
}

INSTANTIATE_TEST_SUITE_P(Table, BflNames,
                         ::testing::Combine(::testing::Values(kFlux1, kFlux2),
                                            ::testing::Values("", "model.diffusion_model.")),
                         [](const auto& test) {
                           const std::string prefix = std::get<1>(test.param);
                           return fmt::format("{}_{}", std::get<0>(test.param).name,
                                              prefix.empty() ? "bfl" : "comfy");
                         });

TEST(BflNamesConfig, LayerMapsAndPatternsMayUseBflNames) {
  NamedTensors weights = nvfp4(micro_flux());
  for (const char* layer : {"to_q", "to_k", "to_v"}) {  // back to 16 bits
    const std::string name = fmt::format("transformer_blocks.1.attn.{}", layer);
    weights[name + ".weight"] = Tensor::host({32, 32}, DType::kBF16);
    weights.erase(name + ".weight_scale");
    weights.erase(name + ".weight_scale_2");
  }
  NamedTensors single_file = to_bfl_flux1(weights);
  repack(single_file);

  const TempFolder patterns;
  const auto by_pattern = open(
      patterns, single_file, kFluxConfig,
      {{"quantization_config",
        R"({"quant_algo":"NVFP4","ignore":["*_in*","*.1.img_attn.qkv","final_layer.linear"]})"}});
  EXPECT_EQ(by_pattern->find_layer("transformer_blocks.1.attn.to_k")->fallback, "exclusion");

  std::string layers;
  for (const auto& [name, tensor] : single_file) {
    if (tensor.dtype() != DType::kU8) continue;
    layers += fmt::format("{}\"{}\":{{\"format\":\"nvfp4\"}}", layers.empty() ? "" : ",",
                          name.substr(0, name.rfind('.')));
  }
  const TempFolder map;
  const auto by_map =
      open(map, single_file, kFluxConfig,
           {{"_quantization_metadata", fmt::format(R"({{"layers":{{{}}}}})", layers)}});
  expect_same(*by_pattern, *by_map);
  EXPECT_EQ(by_map->find_layer("single_transformer_blocks.0.proj_mlp")->format,
            quant::Format::kNvfp4);
}

TEST(BflNamesOthers, KeepTheirs) {
  const NamedTensors other = {
      {"double_blocks.0.img_attn.qkv.weight", Tensor::host({6, 2}, DType::kBF16)},
      {"txt_in.individual_token_refiner.blocks.0.norm1.weight", number(1)}};
  const TempFolder folder;
  const auto source = open(folder, other, kFluxConfig);
  EXPECT_NE(source->find("double_blocks.0.img_attn.qkv.weight"), nullptr);
}

TEST(BflNamesErrors, SpeakOfTheFile) {
  const struct {
    std::function<void(NamedTensors&)> change;
    const char* message;
  } table[] = {
      {[](NamedTensors& all) {
         all["double_blocks.1.txt_attn.qkv.weight"] = Tensor::host({95, 32}, DType::kBF16);
       },
       "'double_blocks.1.txt_attn.qkv.weight' cannot be split: its layer is [95, 32]"},
      {[](NamedTensors& all) {
         all["single_blocks.0.linear1.weight"] = Tensor::host({96, 32}, DType::kBF16);
       },
       "'single_blocks.0.linear1.weight' cannot be split"},
      {[](NamedTensors& all) { all.erase("single_blocks.0.linear1.weight"); },
       "'single_blocks.0.linear1.bias' has no matrix '.weight' beside it"},
      {[](NamedTensors& all) {
         all["final_layer.adaLN_modulation.1.bias"] = Tensor::host({32}, DType::kBF16);
       },
       "'final_layer.adaLN_modulation.1.bias' is [32], its layer has 64 rows"},
      {[](NamedTensors& all) { all["proj_out.weight"] = number(1); },
       "'proj_out.weight' and 'final_layer.linear.weight' are both 'proj_out.weight'"},
      {[](NamedTensors& all) {
         all["double_blocks.0.img_attn.qkv.weight"] = codes({96, 32}, DType::kF8E4M3, 1);
       },
       "(stored as 'double_blocks.0.img_attn.qkv.weight') is F8_E4M3, but nothing declares"},
  };
  for (const auto& row : table) {
    NamedTensors weights = to_bfl_flux1(micro_flux());
    row.change(weights);
    const TempFolder folder;
    const Error error = error_of(
        [&] { open(folder, weights, kFluxConfig)->linear("transformer_blocks.0.attn.to_q"); });
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), AllOf(HasSubstr(kWeights), HasSubstr(row.message)));
  }
}

}  // namespace
}  // namespace dither
