#include "pipelines/png_parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Values;

PictureParameters full() {
  return {.dither_version = "0.1.0",
          .model = "emoji-flux",
          .model_path = "models/emoji-flux",
          .component_paths = {{"transformer", "elsewhere/transformer"}},
          .load_format = LoadFormat::kAuto,
          .pipeline_class = "FluxPipeline",
          .fingerprint = "0123456789abcdef",
          .dtype = DType::kF32,
          .device = "cpu",
          .noise = NoiseSource::kTorchCuda,
          .seed = std::numeric_limits<std::uint64_t>::max(),
          .request = {.prompt = "\"quoted\" \xF0\x9F\x8D\x8E\n",
                      .negative_prompt = "blurry",
                      .width = 128,
                      .height = 256,
                      .num_inference_steps = 20,
                      .guidance_scale = 0.1,
                      .true_cfg_scale = 1.0 / 3,
                      .max_sequence_length = 64}};
}

TEST(PngParameters, RoundTrip) {
  EXPECT_EQ(parse_picture_parameters(to_json(full()), "a.png"), full());
  PictureParameters bare = full();
  bare.model_path.reset();
  bare.component_paths.clear();
  EXPECT_EQ(parse_picture_parameters(to_json(bare), "a.png"), bare);
}

TEST(PngParameters, VideosRepeatToo) {
  PictureParameters video = full();
  video.request.true_cfg_scale = 1;
  video.request.video =
      VideoParameters{.num_frames = 81, .fps = 16, .guidance_scale_2 = 3, .flow_shift = 12};
  EXPECT_EQ(parse_picture_parameters(to_json(video), "a.png"), video);
  const GenerateRequest request = to_request(video);
  EXPECT_EQ(request.negative_prompt, "blurry");
  EXPECT_EQ(request.num_frames, 81);
  EXPECT_EQ(request.fps, 16);
  EXPECT_EQ(request.guidance_scale_2, 3);
  EXPECT_EQ(request.flow_shift, 12);
  EXPECT_THAT(describe(video), HasSubstr("Sampler: UniPC, Guidance: 0.1, Guidance 2: 3, Shift: 12, "
                                         "Frames: 81, FPS: 16, "));
}

TEST(PngParameters, ReferencesAreNamedWithTheirLimit) {
  PictureParameters edited = full();
  edited.request.image_paths = {"a.png", "b.webp"};
  EXPECT_EQ(to_json(edited).find("reference_limit"), std::string::npos);
  edited.request.reference_limit = ReferenceLimit::kBfl;
  std::string json = to_json(edited);
  EXPECT_EQ(parse_picture_parameters(json, "a.png"), edited);
  EXPECT_EQ(to_request(edited).reference_limit, ReferenceLimit::kBfl);
  EXPECT_EQ(to_request(edited).references.size(), 2U);
  json.replace(json.find("\"bfl\""), 5, "\"sgl\"");
  const Error error = error_of([&] { parse_picture_parameters(json, "a.png"); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(error.what(), HasSubstr("a.png: reference_limit 'sgl' is not known"));
}

TEST(PngParameters, WeightsInAnotherPrecisionAreNamed) {
  for (const char* key :
       {"weight_only_fp8", "nvfp4_as", "text_encoder_precision", "vae_precision", "vae_tiling"}) {
    EXPECT_EQ(to_json(full()).find(key), std::string::npos) << key;
  }
  PictureParameters parameters = full();
  parameters.policy = {.keep_fp8 = true, .nvfp4_as_fp8 = true};
  parameters.fp8_text_encoder = true;
  parameters.vae = VaePrecision::kF32;
  parameters.vae_tiling = true;
  const std::string json = to_json(parameters);
  EXPECT_THAT(
      json, HasSubstr(R"("weight_only_fp8":"keep","nvfp4_as":"fp8",)"
                      R"("text_encoder_precision":"fp8","vae_precision":"f32","vae_tiling":true)"));
  EXPECT_EQ(parse_picture_parameters(json, "a.png"), parameters);
  const std::array<std::array<std::string, 3>, 2> refused = {
      {{"weight_only_fp8", R"("keep")", R"("pack")"}, {"vae_precision", R"("f32")", R"("f16")"}}};
  for (const auto& [key, value, other] : refused) {
    std::string unknown = json;
    unknown.replace(unknown.find(value), value.size(), other);
    const Error error = error_of([&] { parse_picture_parameters(unknown, "a.png"); });
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("a.png"), HasSubstr(key),
                                    HasSubstr(other.substr(1, other.size() - 2))));
  }
}

TEST(PngParameters, DummyWeightsAreNamed) {
  EXPECT_EQ(to_json(full()).find("load_format"), std::string::npos);
  PictureParameters dummy = full();
  dummy.load_format = LoadFormat::kDummy;
  EXPECT_THAT(to_json(dummy), HasSubstr(R"("load_format":"dummy")"));
  EXPECT_EQ(parse_picture_parameters(to_json(dummy), "a.png"), dummy);
  EXPECT_THAT(describe(dummy), HasSubstr("Weights: dummy, "));
}

TEST(PngParameters, PathsNeedNotBeUtf8) {
  PictureParameters parameters = full();
  parameters.model_path = "caf\xE9";
  EXPECT_EQ(parse_picture_parameters(to_json(parameters), "a.png").model_path, "caf\uFFFD");
}

TEST(PngParameters, RequestRepeatsThePicture) {
  const GenerateRequest request = to_request(full());
  EXPECT_EQ(request.prompt, full().request.prompt);
  EXPECT_EQ(request.negative_prompt, "blurry");
  EXPECT_EQ(request.true_cfg_scale, 1.0 / 3);
  EXPECT_EQ(request.seed, full().seed);
  EXPECT_EQ(request.noise, NoiseSource::kTorchCuda);
  EXPECT_EQ(request.num_outputs_per_prompt, 1);

  PictureParameters without_cfg = full();
  without_cfg.request.negative_prompt.clear();
  without_cfg.request.true_cfg_scale = 1;
  EXPECT_FALSE(to_request(without_cfg).negative_prompt.has_value());
}

TEST(PngParameters, DescriptionReadsLikeOtherPrograms) {
  EXPECT_THAT(describe(full()), AllOf(HasSubstr("Negative prompt: blurry\n"),
                                      HasSubstr("Steps: 20, Sampler: Euler, Guidance: 0.1, "),
                                      HasSubstr("Size: 128x256, Model: emoji-flux, ")));
}

struct BadJson {
  const char* key;
  const char* value;  ///< JSON; empty: removed
  ErrorCode code;
};

void PrintTo(const BadJson& bad, std::ostream* out) { *out << bad.key << ' ' << bad.value; }

class BadPngParameters : public ::testing::TestWithParam<BadJson> {};

TEST_P(BadPngParameters, AreRefused) {
  auto json = nlohmann::json::parse(to_json(full()));
  json.erase(GetParam().key);
  if (*GetParam().value != '\0') json[GetParam().key] = nlohmann::json::parse(GetParam().value);
  const Error error = error_of([&] { parse_picture_parameters(json.dump(), "a.png"); });
  EXPECT_EQ(error.code(), GetParam().code);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("a.png"), HasSubstr(GetParam().key)));
}

INSTANTIATE_TEST_SUITE_P(Table, BadPngParameters,
                         Values(BadJson{"seed", "\"\"", ErrorCode::kDataLoss},
                                BadJson{"seed", "\"-1\"", ErrorCode::kDataLoss},
                                BadJson{"seed", "\"18446744073709551616\"", ErrorCode::kDataLoss},
                                BadJson{"seed", "7", ErrorCode::kDataLoss},
                                BadJson{"width", "\"wide\"", ErrorCode::kDataLoss},
                                BadJson{"prompt", "", ErrorCode::kDataLoss},
                                BadJson{"dtype", "\"F128\"", ErrorCode::kUnsupported},
                                BadJson{"load_format", "\"magic\"", ErrorCode::kUnsupported},
                                BadJson{"noise", "\"dice\"", ErrorCode::kUnsupported}));

}  // namespace
}  // namespace dither
