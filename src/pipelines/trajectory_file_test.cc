#include "pipelines/trajectory_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/test_util.h"
#include "io/safetensors_writer.h"

namespace dither {
namespace {

using ::testing::HasSubstr;

Tensor iota(const Shape& shape, float first) {
  Tensor tensor = Tensor::host(shape, DType::kF32);
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    tensor.data<float>()[i] = first + static_cast<float>(i);
  }
  return tensor;
}

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

Trajectory example() {
  return {.initial_latents = iota({1, 4, 8}, 0),
          .latents = iota({1, 3, 4, 8}, 100),
          .timesteps = iota({3}, 200),
          .sigmas = iota({4}, 300),
          .embeddings = {{"pooled_prompt_embeds", iota({1, 5}, 400)},
                         {"prompt_embeds", iota({1, 6, 7}, 500)}}};
}

TEST(TrajectoryFile, RoundTrip) {
  const TempFolder folder;
  const auto path = folder.path() / "t.safetensors";
  save_trajectory(path, {example(), {{"prompt", "a red apple"}, {"seed", "7"}}});
  const TrajectoryFile file = load_trajectory(path);
  EXPECT_EQ(file.metadata.at("prompt"), "a red apple");
  EXPECT_EQ(file.metadata.at("seed"), "7");
  EXPECT_TRUE(same(file.trajectory.initial_latents, example().initial_latents));
  EXPECT_TRUE(same(file.trajectory.latents, example().latents));
  EXPECT_TRUE(same(file.trajectory.timesteps, example().timesteps));
  EXPECT_TRUE(same(file.trajectory.sigmas, example().sigmas));
  ASSERT_EQ(file.trajectory.embeddings.size(), 2U);
  EXPECT_EQ(file.trajectory.embeddings[1].first, "prompt_embeds");
  EXPECT_TRUE(same(file.trajectory.embeddings[1].second, example().embeddings[1].second));
}

TEST(TrajectoryFile, RefusesWhatIsNoTrajectory) {
  const TempFolder folder;
  const auto path = folder.path() / "t.safetensors";
  write_safetensors(path, {{"latents", iota({1, 3, 4, 8}, 0)}});
  EXPECT_THAT(error_of([&] { load_trajectory(path); }).what(),
              HasSubstr("'initial_latents' is missing"));

  Trajectory flat = example();
  flat.latents = iota({3, 4, 8}, 0);
  save_trajectory(path, {flat, {}});
  EXPECT_THAT(error_of([&] { load_trajectory(path); }).what(), HasSubstr("'latents' is F32"));

  Trajectory short_of_sigmas = example();
  short_of_sigmas.sigmas = iota({3}, 0);
  save_trajectory(path, {short_of_sigmas, {}});
  EXPECT_THAT(error_of([&] { load_trajectory(path); }).what(), HasSubstr("contradict"));
}

}  // namespace
}  // namespace dither
