#include "pipelines/flux2/flux2_configs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/atomic_file.h"
#include "base/test_util.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Values;

const fs::path kConfigs = fs::path(DITHER_SOURCE_DIR) / "models/configs";
const fs::path kMicro = fs::path(DITHER_SOURCE_DIR) / "tests/golden/flux2";

TEST(Flux2Configs, ReadsDev) {
  const Flux2Configs configs = load_flux2_configs(ModelFolder::open(kConfigs / "flux2-dev"));
  EXPECT_EQ(configs.variant->pipeline, "Flux2Pipeline");
  EXPECT_EQ(configs.transformer.width(), 6144);
  EXPECT_EQ(configs.transformer.mlp_width(), 18432);
  EXPECT_TRUE(configs.transformer.guidance_embeds);
  EXPECT_EQ(configs.text_encoder.rope_theta, 1e9);
  EXPECT_FALSE(configs.text_encoder.qk_norm);
  EXPECT_THAT(configs.text_encoder.output_layers, ElementsAre(10, 20, 30));
  EXPECT_EQ(configs.vae.kl.latent_channels, 32);
  EXPECT_EQ(configs.vae.batch_norm_eps, 1e-4);
}

TEST(Flux2Configs, ReadsKlein) {
  const Flux2Configs configs = load_flux2_configs(ModelFolder::open(kConfigs / "flux2-klein-4b"));
  EXPECT_EQ(configs.variant->pipeline, "Flux2KleinPipeline");
  EXPECT_TRUE(configs.is_distilled);
  EXPECT_FALSE(configs.transformer.guidance_embeds);
  EXPECT_TRUE(configs.text_encoder.qk_norm);
  EXPECT_THAT(configs.text_encoder.output_layers, ElementsAre(9, 18, 27));
}

// transformers 5 nests theta; what older versions write is in models/configs.
TEST(Flux2Configs, ReadsBothSpellingsOfRope) {
  EXPECT_EQ(load_flux2_configs(ModelFolder::open(kMicro / "dev")).text_encoder.rope_theta, 1e9);
  EXPECT_EQ(load_flux2_configs(ModelFolder::open(kMicro / "klein")).text_encoder.rope_theta, 1e6);
}

struct BadValue {
  const char* file;     ///< of the tiny pipelines
  const char* pointer;  ///< what is replaced by
  const char* value;    ///< this JSON; empty: removed
  ErrorCode code;
  const char* says;
};

void PrintTo(const BadValue& bad, std::ostream* out) {
  *out << bad.file << ' ' << bad.pointer << ' ' << bad.value;
}

/// What loading says about a tiny pipeline with one value changed.
Error error_with(const BadValue& bad) {
  const std::string file = bad.file;
  const std::string model = file.substr(0, file.find('/'));
  const TempFolder folder;
  for (const char* name : {"transformer/config.json", "text_encoder/config.json", "vae/config.json",
                           "scheduler/scheduler_config.json", "model_index.json"}) {
    auto json = nlohmann::json::parse(read_text_file(kMicro / model / name, 1 << 20));
    if (file == model + "/" + name) {
      const nlohmann::json::json_pointer at(bad.pointer);
      if (*bad.value == '\0') {
        json.at(at.parent_pointer()).erase(at.back());
      } else {
        json[at] = nlohmann::json::parse(bad.value);
      }
    }
    folder.write(name, json.dump());
  }
  return error_of([&] { load_flux2_configs(ModelFolder::open(folder.path())); });
}

class Flux2BadConfig : public ::testing::TestWithParam<BadValue> {};

TEST_P(Flux2BadConfig, IsRefusedByName) {
  const Error error = error_with(GetParam());
  EXPECT_EQ(error.code(), GetParam().code) << error.what();
  EXPECT_THAT(error.what(), HasSubstr(GetParam().says));
}

constexpr const char* kTransformer = "dev/transformer/config.json";
constexpr const char* kMistral = "dev/text_encoder/config.json";
constexpr const char* kQwen = "klein/text_encoder/config.json";
constexpr const char* kVae = "dev/vae/config.json";
constexpr const char* kIndex = "dev/model_index.json";
constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;
constexpr ErrorCode kDataLoss = ErrorCode::kDataLoss;

INSTANTIATE_TEST_SUITE_P(
    Table, Flux2BadConfig,
    Values(
        BadValue{kTransformer, "/_class_name", R"("FluxTransformer2DModel")", kUnsupported,
                 "_class_name"},
        BadValue{kTransformer, "/patch_size", "2", kUnsupported, "patch_size 2"},
        BadValue{kTransformer, "/axes_dims_rope", "[4, 6, 6]", kUnsupported, "3 axes"},
        BadValue{kTransformer, "/axes_dims_rope", "[4, 4, 4, 6]", kDataLoss, "axes_dims_rope"},
        BadValue{kTransformer, "/timestep_guidance_channels", "33", kDataLoss,
                 "timestep_guidance_channels"},
        BadValue{kTransformer, "/eps", "1e-5", kUnsupported, "eps"},
        BadValue{kTransformer, "/mlp_ratio", "1e300", kUnsupported, "mlp_ratio"},
        BadValue{kTransformer, "/out_channels", "32", kUnsupported, "out_channels 32"},
        BadValue{kTransformer, "/in_channels", "32", kDataLoss, "transformer in_channels 32"},
        BadValue{kTransformer, "/joint_attention_dim", "64", kDataLoss, "joint_attention_dim 64"},
        BadValue{kMistral, "/text_config", "", kDataLoss, "text_config"},
        BadValue{kMistral, "/model_type", R"("llava")", kUnsupported, "model_type"},
        BadValue{kMistral, "/text_config/sliding_window", "4096", kUnsupported, "sliding_window"},
        BadValue{kMistral, "/text_config/num_hidden_layers", "30", kUnsupported,
                 "num_hidden_layers 30"},
        BadValue{kMistral, "/text_config/num_key_value_heads", "3", kDataLoss,
                 "num_attention_heads"},
        BadValue{kMistral, "/text_config/rope_parameters/rope_type", R"("yarn")", kUnsupported,
                 "rope_type"},
        BadValue{kQwen, "/attention_bias", "true", kUnsupported, "attention_bias"},
        BadValue{kQwen, "/hidden_act", R"("gelu")", kUnsupported, "hidden_act"},
        BadValue{kQwen, "/head_dim", "7", kDataLoss, "head_dim"},
        BadValue{kQwen, "/layer_types", R"(["sliding_attention"])", kUnsupported,
                 "sliding_attention"},
        BadValue{kVae, "/batch_norm_eps", "0", kDataLoss, "batch_norm_eps"},
        BadValue{kVae, "/patch_size", "[1, 1]", kUnsupported, "patch_size"},
        BadValue{kVae, "/decoder_block_out_channels", "[8, 16]", kDataLoss,
                 "decoder_block_out_channels"},
        BadValue{kIndex, "/vae", R"(["diffusers", "AutoencoderKL"])", kUnsupported,
                 "Flux2Pipeline needs a AutoencoderKLFlux2"},
        BadValue{kIndex, "/text_encoder", R"(["transformers", "T5EncoderModel"])", kUnsupported,
                 "T5EncoderModel"}));

}  // namespace
}  // namespace dither
