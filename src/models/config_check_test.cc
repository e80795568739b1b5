#include "models/config_check.h"

#include <gmock/gmock.h>

#include <functional>
#include <limits>

#include "base/error.h"
#include "models/flux1/config.h"
#include "models/text/clip_text.h"
#include "models/text/t5_encoder.h"
#include "models/vae/autoencoder_kl.h"
#include "models/vae/wan_config.h"
#include "models/wan/config.h"

namespace dither::models {
namespace {

struct BadConfig {
  const char* name;
  std::function<void()> validate;
  ErrorCode code;
  const char* message;  ///< a part of it: the key and what is wrong
};

void PrintTo(const BadConfig& bad, std::ostream* os) { *os << bad.name; }

template <typename Config>
std::function<void()> validating(const Config& config) {
  return [config] { config.validate(); };
}

std::function<void()> wan(const std::function<void(WanConfig&)>& change) {
  WanConfig config;
  change(config);
  return validating(config);
}

class ConfigValidation : public testing::TestWithParam<BadConfig> {};

TEST_P(ConfigValidation, NamesTheKey) {
  try {
    GetParam().validate();
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), GetParam().code) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().message));
  }
}

constexpr auto kBad = ErrorCode::kDataLoss;
constexpr auto kNo = ErrorCode::kUnsupported;

INSTANTIATE_TEST_SUITE_P(
    Table, ConfigValidation,
    testing::Values(
        BadConfig{"Control", validating(Flux1Config{.in_channels = 128, .out_channels = 64}), kNo,
                  "in_channels 128 with out_channels 64 is FLUX.1 Control"},
        BadConfig{"Fill", validating(Flux1Config{.in_channels = 384, .out_channels = 64}), kNo,
                  "FLUX.1 Fill"},
        BadConfig{"PatchSize", validating(Flux1Config{.patch_size = 2}), kNo, "patch_size 2"},
        BadConfig{"Axes", validating(Flux1Config{.axes_dims_rope = {16, 56, 54}}), kBad,
                  "the sum of axes_dims_rope is 126, expected 128 (attention_head_dim)"},
        BadConfig{"OddAxis", validating(Flux1Config{.axes_dims_rope = {17, 55, 56}}), kBad,
                  "axes_dims_rope is 17, not a multiple of 2"},
        BadConfig{"NoLayers", validating(Flux1Config{.num_layers = 0}), kBad,
                  "num_layers is 0, expected 1 to 1024"},
        BadConfig{
            "HugeWidth",
            validating(Flux1Config{.attention_head_dim = 1 << 20, .num_attention_heads = 1 << 20}),
            kBad, "attention_head_dim x num_attention_heads"},
        BadConfig{"ClipAct", validating(ClipTextConfig{.hidden_act = "gelu"}), kNo,
                  "hidden_act 'gelu'"},
        BadConfig{"ClipHeads", validating(ClipTextConfig{.num_attention_heads = 7}), kBad,
                  "hidden_size is 768, not a multiple of 7 (num_attention_heads)"},
        BadConfig{
            "ClipEps",
            validating(ClipTextConfig{.layer_norm_eps = std::numeric_limits<double>::quiet_NaN()}),
            kBad, "layer_norm_eps is nan"},
        BadConfig{"T5FeedForward", validating(T5Config{.feed_forward_proj = "relu"}), kNo,
                  "feed_forward_proj 'relu'"},
        BadConfig{"T5Buckets", validating(T5Config{.relative_attention_num_buckets = 30}), kNo,
                  "relative_attention_num_buckets 30"},
        BadConfig{"VaeGroups", validating(AutoencoderKlConfig{.norm_num_groups = 24}), kBad,
                  "block_out_channels is 128, not a multiple of 24 (norm_num_groups)"},
        BadConfig{"VaeNoBlocks", validating(AutoencoderKlConfig{.block_out_channels = {}}), kBad,
                  "block_out_channels is 0"},
        BadConfig{"VaeAct", validating(AutoencoderKlConfig{.act_fn = "relu"}), kNo,
                  "act_fn 'relu'"},
        BadConfig{"VaeScale", validating(AutoencoderKlConfig{.scaling_factor = 0}), kBad,
                  "scaling_factor is 0"},
        BadConfig{"WanPatch", wan([](WanConfig& c) { c.patch_size = {2, 2, 2}; }), kNo,
                  "patch_size [2, 2, 2] is not supported"},
        BadConfig{"WanHeadDim", wan([](WanConfig& c) { c.attention_head_dim = 4; }), kNo,
                  "attention_head_dim 4"},
        BadConfig{"WanOddHeadDim", wan([](WanConfig& c) { c.attention_head_dim = 127; }), kBad,
                  "attention_head_dim is 127, not a multiple of 2"},
        BadConfig{"WanFreqDim", wan([](WanConfig& c) { c.freq_dim = 255; }), kBad,
                  "freq_dim is 255"},
        BadConfig{"WanLayers", wan([](WanConfig& c) { c.num_layers = 0; }), kBad,
                  "num_layers is 0"},
        BadConfig{"WanNorm", wan([](WanConfig& c) { c.cross_attn_norm = false; }), kNo,
                  "cross_attn_norm false"},
        BadConfig{"WanQkNorm", wan([](WanConfig& c) { c.qk_norm.reset(); }), kNo, "qk_norm null"},
        BadConfig{"WanImage", wan([](WanConfig& c) { c.image_dim = 1280; }), kNo, "image_dim"},
        BadConfig{"WanAddedKv", wan([](WanConfig& c) { c.added_kv_proj_dim = 5120; }), kNo,
                  "added_kv_proj_dim"},
        BadConfig{"WanEps", wan([](WanConfig& c) { c.eps = 1e-5; }), kNo, "eps 1e-05"},
        BadConfig{"WanVaeAttention", validating(WanVaeConfig{.attn_scales = {0.5}}), kNo,
                  "attn_scales"},
        BadConfig{"WanVaeStatistics", validating(WanVaeConfig{.z_dim = 48}), kBad,
                  "the number of latents_mean is 16, expected 48 (z_dim)"},
        BadConfig{"WanVaeTime", validating(WanVaeConfig{.temperal_downsample = {true, true, true}}),
                  kBad, "scale_factor_temporal is 4, expected 8"},
        BadConfig{"WanVaeLevels", validating(WanVaeConfig{.dim_mult = {1, 2, 4}}), kBad,
                  "the number of temperal_downsample is 3, expected 2"},
        BadConfig{"WanVaePatch", validating(WanVaeConfig{.patch_size = 2}), kBad,
                  "out_channels is 3, not a multiple of 4"},
        BadConfig{"WanVaeShortcut",
                  validating(WanVaeConfig{.dim_mult = {1, 2, 3, 7}, .is_residual = true}), kNo,
                  "dim_mult: "}),
    [](const auto& bad) { return bad.param.name; });

TEST(Config, DefaultsAreValid) {
  EXPECT_NO_THROW(Flux1Config{}.validate());
  EXPECT_NO_THROW(ClipTextConfig{}.validate());
  EXPECT_NO_THROW(T5Config{}.validate());
  EXPECT_NO_THROW(AutoencoderKlConfig{}.validate());
  EXPECT_NO_THROW(WanConfig{}.validate());
  EXPECT_NO_THROW(WanVaeConfig{}.validate());
}

}  // namespace
}  // namespace dither::models
