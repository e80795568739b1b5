// A tiny Wan pipeline of two experts, stage by stage and as a whole, against diffusers:
// make_micro_wan_pipeline.py says what is what.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/test_util.h"
#include "golden/golden.h"
#include "golden/images.h"
#include "pipelines/wan/wan_components.h"
#include "pipelines/wan/wan_latents.h"
#include "runtime/load.h"

namespace dither::golden {
namespace {

namespace fs = std::filesystem;

constexpr double kTolerance = 1e-4;  // relative L2
constexpr const char* kPrompt = "A red fox  runs &amp; jumps over the snow";
constexpr models::VideoGrid kGrid = {.frames = 3, .height = 2, .width = 3};  // 9 of 48 x 32 pixels
constexpr std::int64_t kSteps = 6;

fs::path folder() { return source_dir() / "tests/golden/wan/pipeline"; }

std::unique_ptr<SafetensorsFile> reference() {
  return SafetensorsFile::open(source_dir() / "tests/golden/wan/pipeline.safetensors");
}

/// One of the script's cases.
struct Case {
  const char* name;
  double flow_shift;
  double guidance_scale;
  std::optional<double> guidance_scale_2;
  std::optional<std::string> negative_prompt;
  std::uint64_t seed;

  GenerateRequest request() const {
    GenerateRequest request;
    request.prompt = kPrompt;
    request.negative_prompt = negative_prompt;
    request.guidance_scale = guidance_scale;
    request.guidance_scale_2 = guidance_scale_2;
    request.flow_shift = flow_shift;
    request.seed = seed;
    request.record_trajectory = true;
    return request;
  }
};

const Case kGuided = {"guided", 12, 4, 3, "blurry, static", 7};
const Case kPlain = {"plain", 3, 1, 1, {}, 1};
const Case kSingle = {"single", 5, 5, {}, "", 7};

/// The folder without its second expert.
void copy_single(const fs::path& to) {
  fs::copy(folder(), to, fs::copy_options::recursive);
  fs::remove_all(to / "transformer_2");
  auto index = nlohmann::json::parse(read_text_file(to / "model_index.json", 1 << 20));
  index["transformer_2"] = {nullptr, nullptr};
  index["boundary_ratio"] = nullptr;
  write_file(to / "model_index.json", index.dump());
}

class WanPipelineGolden : public testing::TestWithParam<std::string> {
 protected:
  LoadedPipeline load(const fs::path& path) const {
    return load_pipeline({.model_path = path, .dtype = DType::kF32}, make_backend(GetParam()));
  }

  void expect_as_diffusers(const fs::path& path, const Case& test) const {
    const auto golden = reference();
    const auto read = [&](const char* what) {
      return golden->read(fmt::format("{}.{}", test.name, what));
    };
    const LoadedPipeline loaded = load(path);
    const GenerateResult result = loaded.pipeline->generate(test.request(), {});
    const GeneratedOutput& drawn = result.outputs.at(0);
    const Trajectory& trajectory = drawn.trajectory.value();
    EXPECT_EQ(relative_l2(trajectory.initial_latents, read("initial_latents")), 0);
    EXPECT_EQ(to_floats(trajectory.timesteps), to_floats(read("timesteps")));
    EXPECT_EQ(to_floats(trajectory.sigmas), to_floats(read("sigmas")));
    EXPECT_LE(relative_l2(trajectory.embeddings.at(0).second, golden->read("prompt_embeds")),
              kTolerance);
    const Tensor latents = read("latents");
    ASSERT_EQ(trajectory.latents.shape(), latents.shape());
    for (std::int64_t step = 0; step < kSteps; ++step) {
      const double error = relative_l2(trajectory.latents.slice(1, step, step + 1),
                                       latents.slice(1, step, step + 1));
      EXPECT_LE(error, kTolerance) << "step " << step;
    }
    expect_frames(drawn.frames, read("frames"));
  }
};

TEST_P(WanPipelineGolden, GuidedThroughBothExperts) { expect_as_diffusers(folder(), kGuided); }

TEST_P(WanPipelineGolden, WithoutGuidance) { expect_as_diffusers(folder(), kPlain); }

TEST_P(WanPipelineGolden, OfOneTransformer) {
  const TempFolder temporary;
  const fs::path path = temporary.path() / "single";
  copy_single(path);
  expect_as_diffusers(path, kSingle);
}

INSTANTIATE_TEST_SUITE_P(Backends, WanPipelineGolden, testing::ValuesIn(backends()), backend_name);

/// What the loop is made of.
class WanStages : public testing::TestWithParam<std::string> {
 protected:
  Tensor upload(std::string_view what) const {
    return backend_->upload(reference()->read(what), DType::kF32);
  }

  std::unique_ptr<ops::Backend> backend_ = make_backend(GetParam());
  WanComponents components_ =
      load_wan_components(ModelFolder::open(folder()), *backend_, DType::kF32);
};

TEST_P(WanStages, EveryExpertHasItsVelocity) {
  const std::pair<const char*, float> table[] = {{"velocity_high", 999.0F},
                                                 {"velocity_low", 500.0F}};
  for (std::size_t i = 0; i < 2; ++i) {
    const models::WanTransformer& transformer = components_.experts.at(i);
    const models::WanConditioning conditioning = transformer.prepare(
        {.prompt_embeds = upload("prompt_embeds"), .timesteps = {table[i].second}, .grid = kGrid});
    const Tensor velocity =
        transformer.velocity(upload("guided.initial_latents"), conditioning, std::int64_t{0});
    EXPECT_LE(relative_l2(velocity, reference()->read(table[i].first)), kTolerance);
  }
}

TEST_P(WanStages, FramesAreDecodedOneAfterTheOther) {
  const Tensor latents = upload("guided.latents").slice(1, kSteps - 1, kSteps).reshape({1, 18, 16});
  std::vector<float> decoded;
  components_.vae(unpack_video(latents, kGrid), [&](const Tensor& frames) {
    for (const float value : to_floats(frames)) decoded.push_back(std::clamp(value, -1.0F, 1.0F));
  });
  const Tensor expected = reference()->read("guided.decoded");
  ASSERT_EQ(decoded.size(), static_cast<std::size_t>(expected.elements()));
  const Tensor actual = Tensor::host(expected.shape(), DType::kF32);
  std::ranges::copy(decoded, actual.data<float>());
  EXPECT_LE(relative_l2(actual, expected), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Backends, WanStages, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace dither::golden
