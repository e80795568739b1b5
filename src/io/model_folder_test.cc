#include "io/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::TestWithParam;
using ::testing::Values;

const std::filesystem::path kDemo = std::filesystem::path(DITHER_SOURCE_DIR) / "models/emoji-flux";

TEST(ModelFolder, OpensTheDemoModel) {
  const auto model = ModelFolder::open(kDemo);
  EXPECT_EQ(model.index().class_name, "FluxPipeline");
  EXPECT_THAT(model.index().components, SizeIs(7));
  EXPECT_EQ(model.component_class("vae").library, "diffusers");
  EXPECT_EQ(model.component_class("vae").name, "AutoencoderKL");
  EXPECT_EQ(model.component_folder("vae"), kDemo / "vae");
  EXPECT_EQ(model.component_config("transformer").get<int>("num_layers"), 2);
  EXPECT_EQ(model.component_config("scheduler", "scheduler_config.json").get<double>("shift"), 3.0);
  EXPECT_EQ(model.defaults().width, 128);
  EXPECT_EQ(model.defaults().height, 128);
  EXPECT_EQ(model.defaults().num_inference_steps, 20);
  EXPECT_EQ(model.defaults().guidance_scale, 3.5);
  EXPECT_EQ(model.defaults().max_sequence_length, 64);
  EXPECT_THAT(model.defaults().sizes, ElementsAre(ImageSize{128, 128}));
  EXPECT_THAT(model.defaults().example_prompts, SizeIs(12));
}

TEST(ModelFolder, SettingsAndAbsentComponentsAreNotComponents) {
  const auto index = parse_model_index(
      R"({"_class_name":"WanPipeline","boundary_ratio":0.875,"image_encoder":[null,null],
          "transformer":["diffusers","WanTransformer3DModel"],"sizes":[1,2,3],"_name":["a","b"]})",
      "model_index.json");
  EXPECT_THAT(index.components, SizeIs(1));
  EXPECT_EQ(index.components.at("transformer").name, "WanTransformer3DModel");
}

TEST(ModelFolder, ReplacesComponentFolders) {
  const TempFolder other;
  const auto model = ModelFolder::open(kDemo, {{"transformer", other.path()}});
  EXPECT_EQ(model.component_folder("transformer"), other.path());
  EXPECT_EQ(model.component_folder("vae"), kDemo / "vae");

  const Error unknown =
      error_of([&] { ModelFolder::open(kDemo, {{"transfromer", other.path()}}); });
  EXPECT_EQ(unknown.code(), ErrorCode::kNotFound);
  EXPECT_THAT(unknown.what(), AllOf(HasSubstr("FluxPipeline has no component 'transfromer'"),
                                    HasSubstr("tokenizer_2, transformer, vae")));
  EXPECT_THAT(error_of([&] { ModelFolder::open(kDemo, {{"vae", other.path() / "x"}}); }).what(),
              HasSubstr("x: no such folder, given for component 'vae'"));
}

TEST(ModelFolder, SaysWhatIsMissing) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { ModelFolder::open(folder.path() / "none"); }).what(),
              HasSubstr("none: no such model folder"));
  const Error no_index = error_of([&] { ModelFolder::open(folder.path()); });
  EXPECT_EQ(no_index.code(), ErrorCode::kNotFound);
  EXPECT_THAT(no_index.what(), HasSubstr("not a diffusers pipeline: it has no model_index.json"));
  folder.write("model_index.json", R"({"_class_name":"P","vae":["diffusers","AutoencoderKL"]})");
  const auto model = ModelFolder::open(folder.path());
  EXPECT_TRUE(model.has("vae"));
  EXPECT_FALSE(model.has("transformer"));
  EXPECT_EQ(model.defaults().width, std::nullopt);
  EXPECT_THAT(error_of([&] { model.component_folder("vae"); }).what(),
              HasSubstr("vae: no such folder, but model_index.json lists component 'vae' "
                        "(AutoencoderKL)"));
  folder.write("vae/x", "");
  EXPECT_THAT(error_of([&] { model.component_config("vae"); }).what(),
              HasSubstr("vae/config.json: cannot open"));
}

struct BadFile {
  const char* name;
  const char* index;
  const char* defaults;
  const char* message;
};
class ModelFolderRefuses : public TestWithParam<BadFile> {};

TEST_P(ModelFolderRefuses, BadFile) {
  const TempFolder folder;
  folder.write("model_index.json", GetParam().index);
  folder.write("dither.json", GetParam().defaults);
  const Error error = error_of([&] { ModelFolder::open(folder.path()); });
  EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
  EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
}

constexpr const char* kIndex = R"({"_class_name":"P"})";

INSTANTIATE_TEST_SUITE_P(
    Table, ModelFolderRefuses,
    Values(BadFile{"NoClass", "{}", "{}", "'_class_name' must be the name of a pipeline class"},
           BadFile{"ClassNumber", R"({"_class_name":1})", "{}", "'_class_name' must be the name"},
           BadFile{"HalfNull", R"({"_class_name":"P","vae":[null,"A"]})", "{}",
                   "'vae' must be a pair [library, class]"},
           BadFile{"Traversal", R"({"_class_name":"P","../vae":["a","b"]})", "{}",
                   "'../vae' must be a plain folder name"},
           BadFile{"Truncated", R"({"_class_name":"P")", "{}", "model_index.json: not valid JSON"},
           BadFile{"ZeroWidth", kIndex, R"({"width":0})",
                   "dither.json: 'width' must be at least 1"},
           BadFile{"NegativeSteps", kIndex, R"({"num_inference_steps":-4})",
                   "'num_inference_steps' must be at least 1, is -4"},
           BadFile{"GuidanceText", kIndex, R"({"guidance_scale":"3.5"})",
                   "'guidance_scale' must be a finite number"},
           BadFile{"OneNumberSize", kIndex, R"({"sizes":[[128]]})",
                   "'sizes' must hold [width, height] pairs, has [128]"},
           BadFile{"PromptNumber", kIndex, R"({"example_prompts":["a",1]})",
                   "'example_prompts[1]' must be a string, is 1"}),
    [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace dither
