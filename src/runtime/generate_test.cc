// What a loaded pipeline does with a request, beyond the numbers that tests/golden checks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/test_util.h"
#include "media/png.h"
#include "pipelines/png_parameters.h"
#include "report/similarity.h"
#include "runtime/load.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::Values;

const std::filesystem::path kModel = std::filesystem::path(DITHER_SOURCE_DIR) / "models/emoji-flux";

/// Two steps of the demo model: enough for what must be equal bit for bit.
class Generate : public ::testing::TestWithParam<DType> {
 protected:
  std::vector<GeneratedOutput> draw(const GenerateRequest& request) {
    return loaded_.pipeline->generate(request, {}).outputs;
  }

  LoadedPipeline loaded_ = load_pipeline({.model_path = kModel, .dtype = GetParam()});
  GenerateRequest request_ = {.prompt = "owl", .num_inference_steps = 2, .seed = 11};
};

TEST_P(Generate, SameRequestSamePixels) {
  EXPECT_EQ(draw(request_).at(0).image(), draw(request_).at(0).image());
}

TEST_P(Generate, SeveralOutputsEqualSingleRequests) {
  GenerateRequest both = request_;
  both.num_outputs_per_prompt = 2;
  const auto pictures = draw(both);
  ASSERT_EQ(pictures.size(), 2U);
  EXPECT_NE(pictures[0].image(), pictures[1].image());
  for (const GeneratedOutput& picture : pictures) {
    GenerateRequest single = request_;
    single.seed = picture.seed;
    EXPECT_EQ(draw(single).at(0).image(), picture.image()) << "seed " << picture.seed;
  }
}

// A weight in E4M3 is off by 1/16 of itself at most, and so is each product. No path through the 2
// blocks has more than 2 * 4 of them, whose errors add as squares.
TEST_P(Generate, TextEncoderWeightsInFp8MoveTheEmbeddingsLittle) {
  LoadOptions options{.model_path = kModel, .dtype = GetParam()};
  options.pipeline.fp8_text_encoder = true;
  const LoadedPipeline fp8 = load_pipeline(options);
  request_.record_trajectory = true;
  const Trajectory expected = draw(request_).at(0).trajectory.value();
  const Trajectory actual = fp8.pipeline->generate(request_, {}).outputs.at(0).trajectory.value();
  const auto similarity = [](const Tensor& r, const Tensor& c) {
    const auto values = [](const Tensor& tensor) {
      return std::span(tensor.data<float>(), static_cast<std::size_t>(tensor.elements()));
    };
    return compare_values(values(r), values(c));
  };
  for (std::size_t i = 0; i < expected.embeddings.size(); ++i) {
    const auto& [name, embedding] = expected.embeddings[i];
    const Similarity s = similarity(embedding, actual.embeddings[i].second);
    RecordProperty(name + " cosine", std::to_string(s.cosine));
    RecordProperty(name + " relative L2", std::to_string(s.relative_l2));
    if (name == "prompt_embeds") {
      EXPECT_GT(s.relative_l2, 0);
      EXPECT_LT(s.relative_l2, std::sqrt(8.0) / 16);
    } else {
      EXPECT_EQ(s.relative_l2, 0) << name;  // CLIP's
    }
  }
  int codes = 0;
  for (const ComponentAttestation& component : fp8.pipeline->attestation()) {
    for (const LayerAttestation& layer : component.layers) {
      const bool in_codes = layer.executed.resident == DType::kF8E4M3;
      EXPECT_EQ(in_codes, component.component == "text_encoder_2") << layer.executed.name;
      EXPECT_EQ(in_codes, layer.executed.weight_error.has_value()) << layer.executed.name;
      codes += in_codes ? 1 : 0;
    }
  }
  EXPECT_EQ(codes, 14);
}

/// u + 1 (c - u) = c, and a prompt steered away from itself by any scale stays where it is.
TEST_P(Generate, TrueCfgAgainstTheSamePromptChangesNothing) {
  GenerateRequest guided = request_;
  guided.negative_prompt = request_.prompt;
  guided.true_cfg_scale = 3;
  EXPECT_EQ(draw(guided).at(0).image(), draw(request_).at(0).image());
  guided.negative_prompt = "hamburger";
  EXPECT_NE(draw(guided).at(0).image(), draw(request_).at(0).image());
}

/// A picture's own parameters draw it again, text chunks and all.
TEST_P(Generate, PictureRepeatsItself) {
  const auto as_png = [&](const GenerateRequest& request) {
    const GenerateResult result = loaded_.pipeline->generate(request, {});
    PictureParameters parameters;
    parameters.dtype = loaded_.pipeline->dtype();
    parameters.noise = request.noise;
    parameters.seed = result.outputs.at(0).seed;
    parameters.request = result.request;
    return encode_png(result.outputs[0].image(),
                      {{std::string(kParametersKey), to_json(parameters)}});
  };
  const auto picture = as_png(request_);
  const PngText text = decode_png_text(picture, "owl.png");
  const auto parameters = parse_picture_parameters(text.at(0).second, "owl.png");
  EXPECT_EQ(as_png(to_request(parameters)), picture);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Generate, Values(DType::kF32, DType::kBF16),
                         [](const auto& dtype) { return std::string(dtype_name(dtype.param)); });

/// One loaded model for tests that look at anything but the pixels.
class GenerateResultOf : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    loaded_ = std::make_unique<LoadedPipeline>(load_pipeline({.model_path = kModel}));
  }
  static void TearDownTestSuite() { loaded_.reset(); }

  static GenerateResult generate(const GenerateRequest& request,
                                 const ProgressCallback& progress = {}) {
    return loaded_->pipeline->generate(request, progress);
  }

  inline static std::unique_ptr<LoadedPipeline> loaded_;
};

TEST_F(GenerateResultOf, TimesEveryStageAndStep) {
  const auto result =
      generate({.prompt = "owl", .num_inference_steps = 1, .num_outputs_per_prompt = 2});
  EXPECT_THAT(result.stages, ElementsAre(Field(&StageTime::name, "InputValidationStage"),
                                         Field(&StageTime::name, "TextEncodingStage"),
                                         Field(&StageTime::name, "TimestepPreparationStage"),
                                         Field(&StageTime::name, "LatentPreparationStage"),
                                         Field(&StageTime::name, "DenoisingStage"),
                                         Field(&StageTime::name, "DecodingStage")));
  EXPECT_THAT(result.stages, Each(Field(&StageTime::duration_ms, Ge(0.0))));
  EXPECT_THAT(result.denoise_steps_ms, SizeIs(2));
  double stages_ms = 0;
  for (const StageTime& stage : result.stages) stages_ms += stage.duration_ms;
  EXPECT_LE(stages_ms, result.total_duration_ms);
  EXPECT_GE(result.memory_after.peak_resident_bytes, result.memory_before.resident_bytes);
}

TEST_F(GenerateResultOf, CutPromptsAreReported) {
  std::string prompt = "a red apple";
  for (int i = 0; i < 40; ++i) prompt += " and a green pear";
  EXPECT_THAT(generate({.prompt = prompt, .num_inference_steps = 1}).warnings,
              ElementsAre(AllOf(HasSubstr("prompt: CLIP reads 77 of its "), HasSubstr("pear")),
                          AllOf(HasSubstr("prompt: T5 reads 64 of its "), HasSubstr("pear"))));
}

TEST_F(GenerateResultOf, ProgressCountsPicturesAndCanStop) {
  std::vector<std::string> seen;
  const GenerateRequest request = {
      .prompt = "owl", .num_inference_steps = 2, .num_outputs_per_prompt = 2};
  const auto stop_in_second = [&](const Progress& done) {
    seen.push_back(std::to_string(done.image) + ":" + std::to_string(done.step));
    return done.image == 0;
  };
  const Error error = error_of([&] { generate(request, stop_in_second); });
  EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  EXPECT_STREQ(error.what(), "stopped after step 1 of 2");
  EXPECT_THAT(seen, ElementsAre("0:1", "0:2", "1:1"));
}

TEST_F(GenerateResultOf, TrajectoryOutlivesThePipeline) {
  Trajectory trajectory;
  {
    const auto loaded = load_pipeline({.model_path = kModel});
    trajectory =
        loaded.pipeline
            ->generate({.prompt = "owl", .num_inference_steps = 2, .record_trajectory = true}, {})
            .outputs.at(0)
            .trajectory.value();
  }
  EXPECT_EQ(trajectory.initial_latents.shape(), Shape({1, 64, 64}));
  EXPECT_EQ(trajectory.latents.shape(), Shape({1, 2, 64, 64}));
  EXPECT_EQ(trajectory.sigmas.shape(), Shape({3}));
  EXPECT_EQ(trajectory.sigmas.data<float>()[2], 0.0F);
  ASSERT_THAT(trajectory.embeddings, SizeIs(2));
  EXPECT_EQ(trajectory.embeddings[0].second.shape(), Shape({1, 64, 192}));
}

TEST_F(GenerateResultOf, OddShapesAndEmptyPrompts) {
  const auto result = generate({.prompt = "",
                                .width = 48,
                                .height = 16,
                                .num_inference_steps = 1,
                                .max_sequence_length = 1});
  EXPECT_EQ(result.outputs.at(0).image().width, 48);
  EXPECT_EQ(result.outputs.at(0).image().height, 16);
  EXPECT_THAT(result.warnings, ElementsAre(HasSubstr("cannot draw 48x16, only 128x128")));
}

}  // namespace
}  // namespace dither
