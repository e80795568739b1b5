// Against what SGLang's converter made of the same inputs; see tests/golden/make_convert.py.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/atomic_file.h"
#include "base/test_util.h"
#include "convert/modelopt_fp8.h"
#include "io/safetensors.h"

namespace dither::convert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::IsSubsetOf;

const fs::path kGoldens = fs::path(DITHER_SOURCE_DIR) / "tests/golden";

/// "F8_E4M3 [2, 4] <FNV-1a of the bytes>"
std::string digest(const Tensor& tensor) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (std::size_t i = 0; i < tensor.bytes(); ++i) {
    hash = (hash ^ std::to_integer<std::uint64_t>(tensor.raw()[i])) * 0x100000001B3U;
  }
  return fmt::format("{} {} {:016x}", dtype_name(tensor.dtype()), to_string(tensor.shape()), hash);
}

class ModelOptFp8Golden : public testing::TestWithParam<const char*> {
 protected:
  ModelOptFp8Golden() {
    static const json goldens =
        json::parse(read_text_file(kGoldens / "convert/convert.json", std::size_t{1} << 20));
    golden_ = goldens["cases"][GetParam()];
    const json& inputs = golden_["inputs"];
    options_.modelopt_hf_dir = kGoldens / inputs["modelopt_hf_dir"].get<std::string>();
    options_.modelopt_backbone_ckpt =
        kGoldens / inputs["modelopt_backbone_ckpt"].get<std::string>();
    if (inputs.contains("base_transformer_dir")) {
      options_.base_transformer_dir = kGoldens / inputs["base_transformer_dir"].get<std::string>();
    }
    options_.model_type = golden_["options"].value("model_type", "auto");
    options_.keep_bf16_patterns =
        golden_["options"].value("keep_bf16_patterns", std::vector<std::string>());
    options_.output_dir = temp_.path() / "out";
  }

  std::string read(const std::string& name) const {
    return read_text_file(options_.output_dir / name, std::size_t{1} << 20);
  }

  TempFolder temp_;
  json golden_;
  ModelOptFp8Options options_;
};

TEST_P(ModelOptFp8Golden, SameTensorsMetadataAndIndex) {
  const ModelOptFp8Report report = convert_modelopt_fp8(options_);
  for (const auto& [file, expected] : golden_["shards"].items()) {
    const auto shard = SafetensorsFile::open(options_.output_dir / file);
    json tensors = json::object();
    for (const TensorInfo& info : shard->tensors()) {
      tensors[info.name] = digest(shard->read(info.name));
    }
    EXPECT_EQ(json::diff(tensors, expected["tensors"]).dump(1), "[]");
    std::set<std::string> keys;
    for (const auto& [key, value] : shard->metadata()) keys.insert(key);
    EXPECT_EQ(json(keys), expected["metadata"]);
    EXPECT_EQ(shard->metadata().at("quantization_config"),
              shard->metadata().at("_quantization_metadata"));
  }
  EXPECT_EQ(read(golden_["index_name"]), golden_["index"]);
  const json& stats = golden_["stats"];
  EXPECT_EQ(report.quantized_weights, stats["quantized_weights"]);
  EXPECT_EQ(report.bf16_fallback_weights, stats["bf16_fallback_weights"]);
  EXPECT_EQ(report.added_scale_tensors, stats["added_scale_tensors"]);
  EXPECT_EQ(report.output_shards, stats["output_shards"]);
  EXPECT_EQ(report.clamped_values, 0U);
}

/// SGLang's also names norms, which no reader asks about, and a layer once more that one of the
/// export's patterns covers.
TEST_P(ModelOptFp8Golden, IgnoresTheLayersThatSglangsIgnores) {
  convert_modelopt_fp8(options_);
  // It renames some feed-forward layers; readers of the checkpoint look for its own names.
  const std::map<std::string, std::string> renamed = {
      {"transformer_blocks.0.ff.proj_in", "transformer_blocks.0.ff.net.0.proj"},
      {"transformer_blocks.0.ff.proj_out", "transformer_blocks.0.ff.net.2"}};
  std::set<std::string> theirs;
  for (const std::string name : golden_["ignore"]) {
    const auto found = renamed.find(name);
    theirs.insert(found == renamed.end() ? name : found->second);
  }
  const json config = json::parse(read("config.json"));
  const auto ours = config["quantization_config"]["ignore"].get<std::vector<std::string>>();
  EXPECT_THAT(ours, IsSubsetOf(theirs));
  EXPECT_EQ(config["quantization_config"]["quant_type"], "FP8");
}

INSTANTIATE_TEST_SUITE_P(Cases, ModelOptFp8Golden,
                         testing::Values("flux2-scaleless", "wan-ignored", "flux1-mini-none",
                                         "flux1-micro", "flux1-micro-pattern", "flux2-micro",
                                         "wan-micro"),
                         [](const auto& row) {
                           std::string name = row.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(ModelOptFp8, CopiesOtherFiles) {
  const TempFolder temp;
  convert_modelopt_fp8({.modelopt_hf_dir = kGoldens / "convert/wan-ignored/hf",
                        .modelopt_backbone_ckpt = kGoldens / "convert/wan-ignored/backbone.pt",
                        .output_dir = temp.path() / "out"});
  EXPECT_EQ(read_text_file(temp.path() / "out/notes/LICENSE", 100), "none\n");
}

}  // namespace
}  // namespace dither::convert
