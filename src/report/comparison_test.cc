#include "report/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/test_util.h"
#include "report/html.h"

namespace dither {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

Comparison example() {
  const std::vector<std::pair<std::string, std::string>> options = {{"model_path", "models/<a>"}};
  const ComparedSide side{.options = options,
                          .generation_time_s = {2, 4},
                          .peak_memory_mb = {100, 90},
                          .total_duration_ms = {1900, 3900},
                          .output_file_path = {},
                          .pictures = {solid_image(2, 2, 7)},
                          .transformer_weight_bytes = 3 << 20,
                          .precision_summary = {"transformer: 4 FP8, 0 silent"}};
  return {.request = ComparedRequest{.model_path = "models/a",
                                     .prompt = "a <b>",
                                     .seed = 42,
                                     .width = 2,
                                     .height = 2,
                                     .num_inference_steps = 1,
                                     .guidance_scale = 3.5,
                                     .warmup_runs = 1,
                                     .measure_runs = 2},
          .reference = side,
          .candidate = side,
          .trajectory_shape = {1, 1, 4, 8},
          .steps = {{0, 1000.0, std::nullopt, {}}},
          .selected_step = 0,
          .embeddings = {{"prompt_embeds", {.cosine = 0.5, .relative_l2 = 0.25}}},
          .frames = {{{}, std::numeric_limits<double>::infinity()}},
          .all_frames = {{}, std::numeric_limits<double>::infinity()},
          .layers = {{"blocks.0", "BF16", "FP8", 0, 0.999, 0.02}},
          .precision = {{"transformer", "blocks.0", "F8_E4M3", "FP8", "k", "checkpoint", ""}}};
}

std::vector<std::string> keys(const nlohmann::json& json) {
  std::vector<std::string> names;
  for (const auto& [key, value] : json.items()) names.push_back(key);
  return names;
}

TEST(ComparisonJson, HasTheDocumentsKeysAndNoOthers) {
  std::string text = comparison_json(example());
  EXPECT_THAT(text, HasSubstr("      \"psnr_db\": Infinity,\n"));
  EXPECT_THAT(text, HasSubstr("{\n  \"backend_overrides\": {\n    \"candidate_fp4_gemm_backend\""));
  for (std::size_t at; (at = text.find("Infinity")) != std::string::npos;)
    text.replace(at, 8, 1, '9');
  const auto json = nlohmann::json::parse(text);
  EXPECT_THAT(
      keys(json),
      ElementsAre("backend_overrides", "candidate_generation", "embedding_metrics", "measure_runs",
                  "model_path", "output_metrics", "prompt", "reference_generation",
                  "sampling_kwargs", "seed", "server_kwargs", "trajectory_metrics", "warmup_runs"));
  EXPECT_THAT(keys(json["candidate_generation"]),
              UnorderedElementsAre(
                  "fp4_gemm_backend", "warmup_runs", "measure_runs", "generation_time_s",
                  "avg_generation_time_s", "per_run_generation_time_s", "peak_memory_mb",
                  "max_peak_memory_mb", "per_run_peak_memory_mb", "total_duration_ms",
                  "avg_total_duration_ms", "per_run_total_duration_ms", "output_file_path"));
  EXPECT_THAT(keys(json["trajectory_metrics"]),
              UnorderedElementsAre("trajectory_shape", "num_steps", "selected_step_index",
                                   "selected_step_metrics", "per_step_metrics"));
  EXPECT_THAT(keys(json["trajectory_metrics"]["per_step_metrics"][0]),
              UnorderedElementsAre("step_index", "reference_timestep", "candidate_timestep",
                                   "cosine_similarity", "mae", "mse", "rmse", "max_abs", "l2"));
  EXPECT_EQ(json["embedding_metrics"]["prompt_embeds"]["cosine_similarity"], 0.5);
  EXPECT_EQ(json["embedding_metrics"]["prompt_embeds"]["relative_l2"], 0.25);
  EXPECT_THAT(keys(json["output_metrics"]),
              UnorderedElementsAre("num_frames", "frame0_metrics", "mid_frame_index",
                                   "mid_frame_metrics", "all_frames_metrics"));
  EXPECT_THAT(
      keys(json["output_metrics"]["frame0_metrics"]),
      UnorderedElementsAre("cosine_similarity", "mae", "mse", "rmse", "max_abs", "l2", "psnr_db"));
  EXPECT_EQ(json["reference_generation"]["avg_generation_time_s"], 3);
  EXPECT_EQ(json["reference_generation"]["max_peak_memory_mb"], 100);
}

TEST(ComparisonJson, SavedTrajectoriesLeaveTheRestNull) {
  const std::string text = comparison_json({.request = {},
                                            .reference = {},
                                            .candidate = {},
                                            .trajectory_shape = {1, 1, 4, 8},
                                            .steps = {{}},
                                            .embeddings = {},
                                            .frames = {},
                                            .all_frames = {},
                                            .layers = {},
                                            .precision = {}});
  const auto json = nlohmann::json::parse(text);
  EXPECT_TRUE(json["output_metrics"].is_null());
  EXPECT_TRUE(json["sampling_kwargs"].is_null());
  EXPECT_EQ(json["trajectory_metrics"]["selected_step_metrics"]["cosine_similarity"], 1);
}

TEST(ComparisonHtml, NeedsNothingButItself) {
  const std::string page = comparison_html(example());
  EXPECT_THAT(page, HasSubstr("a &lt;b&gt;"));
  EXPECT_THAT(page, HasSubstr("data:image/png;base64,"));
  EXPECT_THAT(page, HasSubstr("<polyline"));
  EXPECT_THAT(page, HasSubstr("transformer: 4 FP8, 0 silent"));
  EXPECT_THAT(page, HasSubstr("prompt_embeds"));
  for (const char* outside : {"http", "<script", "<link", "@import", "url("}) {
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  }
  EXPECT_LT(page.size(), 20'000U);
}

/// Two files of videos: frames and no steps.
Comparison videos(std::size_t frames) {
  Comparison comparison;
  FrameSimilarities similarities;
  for (std::size_t i = 0; i < frames; ++i) {
    similarities.add(solid_image(2, 2, 10), solid_image(2, 2, static_cast<std::uint8_t>(10 + i)));
  }
  comparison.frames = similarities.frames();
  comparison.all_frames = similarities.all();
  const std::vector<Image> pictures(shown_frames(frames).size(), solid_image(2, 2, 10));
  comparison.reference.pictures = comparison.candidate.pictures = pictures;
  return comparison;
}

TEST(ComparisonHtml, ShowsAVideosFirstMiddleAndLastFrame) {
  const std::string page = comparison_html(videos(5));
  for (const char* text : {"reference, first frame", "candidate, middle frame",
                           "difference x 8, last frame", "PSNR of every frame", "all frames"}) {
    EXPECT_THAT(page, HasSubstr(text));
  }
  EXPECT_THAT(page, Not(HasSubstr("step")));
  EXPECT_THAT(comparison_html(videos(2)), Not(HasSubstr("middle")));
}

TEST(ComparisonJson, VideosHaveNoTrajectory) {
  std::string text = comparison_json(videos(5));
  for (std::size_t at; (at = text.find("Infinity")) != std::string::npos;)
    text.replace(at, 8, 1, '9');
  const auto json = nlohmann::json::parse(text);
  EXPECT_TRUE(json["trajectory_metrics"].is_null());
  EXPECT_EQ(json["output_metrics"]["num_frames"], 5);
  EXPECT_EQ(json["output_metrics"]["mid_frame_metrics"]["mae"], 2);
  EXPECT_EQ(json["output_metrics"]["all_frames_metrics"]["mae"], 2);  // of 0, 1, 2, 3, 4
}

TEST(SelectStep, CountsFromTheEndToo) {
  EXPECT_EQ(select_step(-1, 20), 19U);
  EXPECT_EQ(select_step(0, 20), 0U);
  EXPECT_THAT(error_of([] { select_step(20, 20); }).what(), HasSubstr("20 steps"));
  EXPECT_THAT(error_of([] { select_step(-21, 20); }).what(), HasSubstr("20 steps"));
}

TEST(Base64, TestVectorsOfRfc4648) {
  const auto encode = [](std::string_view text) {
    return html::base64(std::as_bytes(std::span(text.data(), text.size())));
  };
  EXPECT_EQ(encode(""), "");
  EXPECT_EQ(encode("f"), "Zg==");
  EXPECT_EQ(encode("fo"), "Zm8=");
  EXPECT_EQ(encode("foo"), "Zm9v");
  EXPECT_EQ(encode("foobar"), "Zm9vYmFy");
}

}  // namespace
}  // namespace dither
