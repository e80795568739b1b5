#include "pipelines/wan/wan_configs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/test_util.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Values;
using Json = nlohmann::json;

const fs::path kConfigs = fs::path(DITHER_SOURCE_DIR) / "models/configs";

WanConfigs load(const std::string& model) {
  return load_wan_configs(ModelFolder::open(kConfigs / model));
}

TEST(WanConfigs, OfBothExperts) {
  const WanConfigs configs = load("wan2.2-t2v-a14b");
  EXPECT_EQ(configs.boundary_ratio, 0.875);
  EXPECT_EQ(configs.transformer.width(), 5120);
  EXPECT_EQ(configs.transformer_2->width(), 5120);
  EXPECT_TRUE(configs.text_encoder.bias_in_every_block);
  EXPECT_EQ(configs.patch(), 16);
  EXPECT_EQ(configs.picture, PictureInput::kNone);
  const WanSuggestions suggested = suggest(configs);
  EXPECT_EQ(suggested.flow_shift, 12);  // not the scheduler's 3
  EXPECT_EQ(suggested.guidance_scale, 4);
  EXPECT_EQ(suggested.guidance_scale_2, 3);
}

TEST(WanConfigs, OfOneTransformer) {
  const WanConfigs small = load("wan2.1-t2v-1.3b");
  EXPECT_FALSE(small.transformer_2.has_value());
  EXPECT_FALSE(small.boundary_ratio.has_value());
  EXPECT_EQ(small.transformer.width(), 1536);
  const WanConfigs dense = load("wan2.2-ti2v-5b");
  EXPECT_EQ(dense.vae.z_dim, 48);
  EXPECT_EQ(dense.patch(), 32);
  EXPECT_EQ(suggest(dense).num_frames, 121);
  EXPECT_EQ(suggest(dense).fps, 24);
}

TEST(WanConfigs, OfPictures) {
  const WanConfigs experts = load("wan2.2-i2v-a14b");
  EXPECT_EQ(experts.picture, PictureInput::kChannels);
  EXPECT_EQ(experts.boundary_ratio, 0.9);
  EXPECT_EQ(experts.transformer.token_width(), 4 * 36);
  EXPECT_EQ(experts.latent_channels(), 16);
  const WanSuggestions suggested = suggest(experts);
  EXPECT_EQ(suggested.num_inference_steps, 40);
  EXPECT_EQ(suggested.guidance_scale, 3.5);
  EXPECT_EQ(suggested.guidance_scale_2, 3.5);
  EXPECT_EQ(suggested.flow_shift, 5);
  EXPECT_EQ(load("wan2.2-ti2v-5b").picture, PictureInput::kFirstFrame);
}

/// A copy of the configs of Wan2.2-T2V-A14B with one file changed.
struct Damage {
  const char* file;
  void (*change)(Json& json);
  ErrorCode code;
  const char* says;
};

void PrintTo(const Damage& damage, std::ostream* out) { *out << damage.says; }

class DamagedWan : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedWan, IsRefused) {
  const TempFolder temporary;
  const fs::path copy = temporary.path() / "wan";
  fs::copy(kConfigs / "wan2.2-t2v-a14b", copy, fs::copy_options::recursive);
  const fs::path file = copy / GetParam().file;
  Json json = Json::parse(read_text_file(file, 1 << 20));
  GetParam().change(json);
  write_file(file, json.dump());
  const Error error = error_of([&] { load_wan_configs(ModelFolder::open(copy)); });
  EXPECT_EQ(error.code(), GetParam().code);
  EXPECT_THAT(error.what(), HasSubstr(GetParam().says));
}

constexpr const char* kIndex = "model_index.json";
constexpr const char* kFirst = "transformer/config.json";

INSTANTIATE_TEST_SUITE_P(
    Table, DamagedWan,
    Values(Damage{kIndex, [](Json& j) { j["boundary_ratio"] = 1.5; }, ErrorCode::kDataLoss,
                  "model_index.json: 'boundary_ratio' is 1.5, must lie between 0 and 1"},
           Damage{kIndex, [](Json& j) { j["boundary_ratio"] = 0; }, ErrorCode::kDataLoss,
                  "'boundary_ratio' is 0, must lie"},
           Damage{kIndex, [](Json& j) { j["transformer_2"] = {nullptr, nullptr}; },
                  ErrorCode::kDataLoss, "but transformer_2 is missing"},
           Damage{kIndex, [](Json& j) { j["boundary_ratio"] = nullptr; }, ErrorCode::kDataLoss,
                  "lists transformer_2, but no 'boundary_ratio'"},
           Damage{kIndex, [](Json& j) { j["transformer"] = {nullptr, nullptr}; },
                  ErrorCode::kNotFound, "no component 'transformer'"},
           Damage{kIndex, [](Json& j) { j["transformer_2"][1] = "FluxTransformer2DModel"; },
                  ErrorCode::kUnsupported, "'transformer_2' is a FluxTransformer2DModel"},
           Damage{kFirst, [](Json& j) { j["in_channels"] = 36; }, ErrorCode::kDataLoss,
                  "transformer_2 in_channels 16 does not fit transformer in_channels 36"},
           Damage{kFirst, [](Json& j) { j["text_dim"] = 2048; }, ErrorCode::kDataLoss, "text_dim"},
           Damage{kFirst, [](Json& j) { j["image_dim"] = 1280; }, ErrorCode::kUnsupported,
                  "image_dim and added_kv_proj_dim are not supported: Wan2.1's transformers that "
                  "read a picture through CLIP"},
           Damage{"vae/config.json", [](Json& j) { j["z_dim"] = 48; }, ErrorCode::kDataLoss,
                  "vae/config.json"},
           Damage{"scheduler/scheduler_config.json",
                  [](Json& j) { j["prediction_type"] = "epsilon"; }, ErrorCode::kUnsupported,
                  "prediction_type"}));

/// The configs of a model whose class, channels and expand_timesteps do not go together.
struct Mixture {
  const char* model;
  const char* pipeline;
  int in_channels;
  bool expand_timesteps;
  const char* says;
};

TEST(WanConfigs, ChannelsAreThoseOfTheClass) {
  constexpr const char* kText = "WanPipeline";
  constexpr const char* kPicture = "WanImageToVideoPipeline";
  const Mixture table[] = {
      {"wan2.2-t2v-a14b", kText, 36, false,
       "in_channels 36 does not fit WanPipeline: must be 16, its out_channels"},
      {"wan2.2-t2v-a14b", kPicture, 16, false,
       "in_channels 16 does not fit WanImageToVideoPipeline: must be 36, latents, mask and a "
       "picture's latents"},
      {"wan2.2-i2v-a14b", kPicture, 32, false, "in_channels 32 does not fit"},
      {"wan2.2-i2v-a14b", kPicture, 36, true,
       "in_channels 36 does not fit WanImageToVideoPipeline with expand_timesteps: must be 16"}};
  for (const Mixture& row : table) {
    const TempFolder temporary;
    const fs::path copy = temporary.path() / "wan";
    fs::copy(kConfigs / row.model, copy, fs::copy_options::recursive);
    const auto change = [&](const char* name, const Json& changes) {
      Json json = Json::parse(read_text_file(copy / name, 1 << 20));
      json.update(changes);
      write_file(copy / name, json.dump());
    };
    change(kIndex, {{"_class_name", row.pipeline}, {"expand_timesteps", row.expand_timesteps}});
    change(kFirst, {{"in_channels", row.in_channels}});
    change("transformer_2/config.json", {{"in_channels", row.in_channels}});
    const Error error = error_of([&] { load_wan_configs(ModelFolder::open(copy)); });
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), HasSubstr(row.says));
  }
}

}  // namespace
}  // namespace dither
