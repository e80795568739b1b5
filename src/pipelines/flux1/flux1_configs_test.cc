#include "pipelines/flux1/flux1_configs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/atomic_file.h"
#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Values;

const std::filesystem::path kModel = std::filesystem::path(DITHER_SOURCE_DIR) / "models/emoji-flux";

TEST(Flux1Configs, ReadsTheDemoModel) {
  const Flux1Configs configs = load_flux1_configs(ModelFolder::open(kModel));
  EXPECT_EQ(configs.transformer.num_layers, 2);
  EXPECT_EQ(configs.transformer.num_single_layers, 4);
  EXPECT_EQ(configs.transformer.width(), 256);
  EXPECT_THAT(configs.transformer.axes_dims_rope, ElementsAre(8, 28, 28));
  EXPECT_TRUE(configs.transformer.guidance_embeds);
  EXPECT_EQ(configs.text_encoder.eos_token_id, 2);
  EXPECT_EQ(configs.text_encoder_2.d_kv, 64);
  EXPECT_THAT(configs.vae.block_out_channels, ElementsAre(32, 48, 64, 96));
  EXPECT_EQ(configs.vae.vae_scale_factor(), 8);
  EXPECT_DOUBLE_EQ(configs.vae.shift_factor, 0.1404);
  EXPECT_TRUE(configs.scheduler.use_dynamic_shifting);
  EXPECT_DOUBLE_EQ(configs.scheduler.shift, 3.0);
}

// FLUX.1-schnell's published transformer and scheduler, which leave keys out.
TEST(Flux1Configs, AbsentKeysTakeDefaults) {
  const auto transformer = parse_flux1_config(JsonConfig::parse(R"({
    "_class_name": "FluxTransformer2DModel", "attention_head_dim": 128, "guidance_embeds": false,
    "in_channels": 64, "joint_attention_dim": 4096, "num_attention_heads": 24, "num_layers": 19,
    "num_single_layers": 38, "patch_size": 1, "pooled_projection_dim": 768})",
                                                                "schnell"));
  EXPECT_FALSE(transformer.guidance_embeds);
  EXPECT_FALSE(transformer.out_channels.has_value());
  EXPECT_THAT(transformer.axes_dims_rope, ElementsAre(16, 56, 56));

  const auto scheduler = parse_flow_match_config(JsonConfig::parse(
      R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 1.0})", "schnell"));
  EXPECT_FALSE(scheduler.use_dynamic_shifting);
  EXPECT_EQ(scheduler.num_train_timesteps, 1000);
  EXPECT_EQ(scheduler.time_shift_type, "exponential");

  // Older than use_quant_conv: such an autoencoder has both convolutions.
  const auto vae = parse_autoencoder_kl_config(
      JsonConfig::parse(R"({"block_out_channels": [32, 64], "layers_per_block": 1,
                            "latent_channels": 4, "scaling_factor": 0.2})",
                        "old"));
  EXPECT_TRUE(vae.use_quant_conv);
  EXPECT_TRUE(vae.use_post_quant_conv);
  EXPECT_EQ(vae.shift_factor, 0.0);
}

struct BadValue {
  const char* file;   ///< of the demo model
  const char* key;    ///< replaced by
  const char* value;  ///< this JSON; empty: removed
  ErrorCode code;
};

void PrintTo(const BadValue& bad, std::ostream* out) {
  *out << bad.file << ' ' << bad.key << ' ' << bad.value;
}

class Flux1BadConfig : public ::testing::TestWithParam<BadValue> {};

void parse(const std::string& file, const JsonConfig& json) {
  if (file.starts_with("transformer")) parse_flux1_config(json);
  if (file.starts_with("text_encoder/")) parse_clip_text_config(json);
  if (file.starts_with("text_encoder_2")) parse_t5_config(json);
  if (file.starts_with("vae")) parse_autoencoder_kl_config(json);
  if (file.starts_with("scheduler")) parse_flow_match_config(json);
}

TEST_P(Flux1BadConfig, IsRefusedByFileAndKey) {
  const BadValue& bad = GetParam();
  auto json = nlohmann::json::parse(read_text_file(kModel / bad.file, 1 << 20));
  json.erase(bad.key);
  if (*bad.value != '\0') json[bad.key] = nlohmann::json::parse(bad.value);
  const Error error = error_of([&] { parse(bad.file, JsonConfig::parse(json.dump(), bad.file)); });
  EXPECT_EQ(error.code(), bad.code) << error.what();
  EXPECT_THAT(error.what(), AllOf(HasSubstr(bad.file), HasSubstr(bad.key)));
}

constexpr const char* kTransformer = "transformer/config.json";
constexpr const char* kClip = "text_encoder/config.json";
constexpr const char* kT5 = "text_encoder_2/config.json";
constexpr const char* kVae = "vae/config.json";
constexpr const char* kScheduler = "scheduler/scheduler_config.json";

INSTANTIATE_TEST_SUITE_P(
    Table, Flux1BadConfig,
    Values(BadValue{kTransformer, "_class_name", R"("Flux2Transformer2DModel")",
                    ErrorCode::kUnsupported},
           BadValue{kTransformer, "patch_size", "2", ErrorCode::kUnsupported},
           BadValue{kTransformer, "num_layers", "\"two\"", ErrorCode::kDataLoss},
           BadValue{kTransformer, "num_layers", "", ErrorCode::kDataLoss},
           BadValue{kTransformer, "num_layers", "-1", ErrorCode::kDataLoss},
           BadValue{kTransformer, "num_layers", "1e30", ErrorCode::kDataLoss},
           BadValue{kTransformer, "axes_dims_rope", "[32, 32]", ErrorCode::kUnsupported},
           BadValue{kTransformer, "axes_dims_rope", "[16, 56, 56]", ErrorCode::kDataLoss},
           BadValue{kTransformer, "out_channels", "32", ErrorCode::kUnsupported},
           BadValue{kClip, "hidden_act", "\"relu\"", ErrorCode::kUnsupported},
           BadValue{kClip, "num_attention_heads", "3", ErrorCode::kDataLoss},
           BadValue{kClip, "vocab_size", "", ErrorCode::kDataLoss},
           BadValue{kT5, "feed_forward_proj", "\"relu\"", ErrorCode::kUnsupported},
           BadValue{kT5, "is_gated_act", "false", ErrorCode::kUnsupported},
           BadValue{kT5, "d_model", "0", ErrorCode::kDataLoss},
           BadValue{kVae, "act_fn", "\"gelu\"", ErrorCode::kUnsupported},
           BadValue{kVae, "latents_mean", "[0.5]", ErrorCode::kUnsupported},
           BadValue{kVae, "up_block_types", R"(["AttnUpBlock2D"])", ErrorCode::kUnsupported},
           BadValue{kVae, "norm_num_groups", "7", ErrorCode::kDataLoss},
           BadValue{kVae, "scaling_factor", "", ErrorCode::kDataLoss},
           BadValue{kScheduler, "use_karras_sigmas", "true", ErrorCode::kUnsupported},
           BadValue{kScheduler, "shift_terminal", "0.1", ErrorCode::kUnsupported},
           BadValue{kScheduler, "time_shift_type", "\"cubic\"", ErrorCode::kUnsupported},
           BadValue{kScheduler, "num_train_timesteps", "0", ErrorCode::kInvalidArgument}));

/// The demo model's configs in a folder of their own, one component's key changed.
std::string error_with(const std::string& file, const std::string& key,
                       const nlohmann::json& value) {
  const TempFolder folder;
  for (const char* name : {kTransformer, kClip, kT5, kVae, kScheduler, "model_index.json"}) {
    auto json = nlohmann::json::parse(read_text_file(kModel / name, 1 << 20));
    if (name == file) json[key] = value;
    folder.write(name, json.dump());
  }
  return error_of([&] { load_flux1_configs(ModelFolder::open(folder.path())); }).what();
}

TEST(Flux1Configs, ComponentsMustFitEachOther) {
  EXPECT_THAT(error_with(kVae, "latent_channels", 8), HasSubstr("transformer in_channels 64"));
  EXPECT_THAT(error_with(kT5, "d_model", 256), HasSubstr("joint_attention_dim 192"));
  EXPECT_THAT(error_with(kClip, "hidden_size", 256), HasSubstr("pooled_projection_dim 128"));
  EXPECT_THAT(error_with("model_index.json", "vae", {"diffusers", "AutoencoderTiny"}),
              AllOf(HasSubstr("AutoencoderTiny"), HasSubstr("AutoencoderKL")));
}

}  // namespace
}  // namespace dither
