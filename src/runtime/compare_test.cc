#include "runtime/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "backends/cpu/cpu_backend.h"
#include "base/test_util.h"
#include "pipelines/trajectory_file.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

const fs::path kModel = fs::path(DITHER_SOURCE_DIR) / "models/emoji-flux";

CompareOptions two_steps(DType reference, DType candidate) {
  return {.reference = {.model_path = kModel, .dtype = reference},
          .candidate = {.model_path = kModel, .dtype = candidate},
          .request = {.prompt = "owl", .num_inference_steps = 2}};
}

TEST(CompareModels, AModelEqualsItself) {
  const Comparison same = compare_models(two_steps(DType::kF32, DType::kF32), nullptr);
  EXPECT_DOUBLE_EQ(same.selected().similarity.cosine, 1);
  EXPECT_EQ(same.selected().similarity.max_abs, 0);
  EXPECT_TRUE(std::isinf(same.frames.front().psnr_db));
  EXPECT_TRUE(same.layers.empty());  // all are executed alike
}

TEST(CompareModels, Bf16AgainstF32) {
  CompareOptions options = two_steps(DType::kF32, DType::kBF16);
  options.warmup_runs = 1;
  options.measure_runs = 2;
  const Comparison result = compare_models(options, nullptr);
  EXPECT_EQ(result.steps.size(), 2U);
  EXPECT_EQ(result.selected().step, 1);
  EXPECT_GT(result.selected().similarity.cosine, 0.999);
  EXPECT_LT(result.selected().similarity.cosine, 1);
  EXPECT_EQ(result.reference.generation_time_s.size(), 2U);
  const bool widened = cpu::product_dtype(DType::kBF16) == DType::kF32;
  EXPECT_EQ(result.reference.transformer_weight_bytes,
            (widened ? 1 : 2) * result.candidate.transformer_weight_bytes);
  EXPECT_EQ(result.layers.empty(), widened);  // all are then executed alike
  for (const auto& layer : result.layers) EXPECT_LT(layer.relative_l2, 0.02);
}

TEST(CompareModels, StepsMustExist) {
  CompareOptions options = two_steps(DType::kBF16, DType::kBF16);
  options.step_index = 2;
  EXPECT_EQ(error_of([&] { compare_models(options, nullptr); }).code(),
            ErrorCode::kInvalidArgument);
}

TrajectoryFile saved(std::int64_t steps) {
  Trajectory trajectory{.initial_latents = Tensor::host({1, 2, 4}, DType::kF32),
                        .latents = Tensor::host({1, steps, 2, 4}, DType::kF32),
                        .timesteps = Tensor::host({steps}, DType::kF32),
                        .sigmas = Tensor::host({steps + 1}, DType::kF32),
                        .embeddings = {}};
  for (std::int64_t i = 0; i < trajectory.latents.elements(); ++i) {
    trajectory.latents.data<float>()[i] = static_cast<float>(i);
  }
  return {std::move(trajectory), {}};
}

TEST(CompareTrajectoryFiles, RunsNothing) {
  const TempFolder folder;
  const fs::path a = folder.path() / "a.safetensors";
  const fs::path b = folder.path() / "b.safetensors";
  save_trajectory(a, saved(3));
  const Comparison same = compare_trajectory_files(a, a, 0);
  EXPECT_EQ(same.selected_step, 0U);
  EXPECT_DOUBLE_EQ(same.selected().similarity.cosine, 1);
  EXPECT_TRUE(same.frames.empty());

  save_trajectory(b, saved(2));
  EXPECT_THAT(error_of([&] { compare_trajectory_files(a, b, -1); }).what(),
              AllOf(HasSubstr("a.safetensors has latents [1, 3, 2, 4]"),
                    HasSubstr("b.safetensors has [1, 2, 2, 4]")));
}

}  // namespace
}  // namespace dither
