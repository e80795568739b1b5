// The demo model from prompt to picture, against diffusers: README.md says what the files hold.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "golden/golden.h"
#include "golden/images.h"
#include "media/png.h"
#include "runtime/load.h"
#include "tokenizers/load_tokenizer.h"

namespace dither::golden {
namespace {

using ::testing::ElementsAreArray;
using ::testing::Values;

struct GoldenCase {
  int index;
  const char* prompt;
};

void PrintTo(const GoldenCase& golden, std::ostream* out) { *out << "case" << golden.index; }

std::filesystem::path demo_model() { return source_dir() / "models/emoji-flux"; }

/// golden_cuda.json's settings, which are not left to the model's defaults.
GenerateRequest golden_request(const GoldenCase& golden) {
  GenerateRequest request;
  request.prompt = golden.prompt;
  request.width = 128;
  request.height = 128;
  request.num_inference_steps = 20;
  request.guidance_scale = 3.5;
  request.max_sequence_length = 64;
  request.seed = static_cast<std::uint64_t>(golden.index);
  request.record_trajectory = true;
  return request;
}

/// What the pipeline makes of a case, beside diffusers' tensors of it.
class Flux1Golden : public ::testing::TestWithParam<GoldenCase> {
 protected:
  GeneratedOutput draw(DType dtype, NoiseSource noise) {
    const LoadOptions options{.model_path = demo_model(), .dtype = dtype};
    loaded_ = load_pipeline(options, make_backend("cpu"));
    GenerateRequest request = golden_request(GetParam());
    request.noise = noise;
    return std::move(loaded_.pipeline->generate(request, {}).outputs.at(0));
  }

  static Tensor golden(const char* file, std::string_view what) {
    return SafetensorsFile::open(source_dir() / "tests/golden" / file)
        ->read(fmt::format("case{}.{}", GetParam().index, what));
  }

  LoadedPipeline loaded_;
};

TEST_P(Flux1Golden, TokenIdsAreIdentical) {
  const auto expect_ids = [](const char* folder, std::size_t length, const char* name) {
    const auto tokenizer = load_tokenizer(demo_model() / folder);
    const Tensor ids = golden("golden_fp32_cuda.safetensors", name);
    EXPECT_THAT(tokenizer->encode_padded(GetParam().prompt, length).ids,
                ElementsAreArray(ids.data<std::int32_t>(), length));
  };
  expect_ids("tokenizer", 77, "clip_ids");
  expect_ids("tokenizer_2", 64, "t5_ids");
}

TEST_P(Flux1Golden, FloatTrajectoryFollowsDiffusers) {
  constexpr const char* kFile = "golden_fp32_cuda.safetensors";
  const GeneratedOutput drawn = draw(DType::kF32, NoiseSource::kTorchCpu);
  const Trajectory& trajectory = drawn.trajectory.value();
  EXPECT_EQ(to_floats(trajectory.initial_latents), to_floats(golden(kFile, "initial_latents")));
  EXPECT_LE(relative_l2(trajectory.embeddings.at(0).second, golden(kFile, "t5_embeds")), 2e-5);
  EXPECT_LE(relative_l2(trajectory.embeddings.at(1).second, golden(kFile, "clip_pooled")), 2e-5);

  const Tensor latents = golden(kFile, "latents");  // [steps, L, C]
  ASSERT_EQ(trajectory.latents.dim(1), latents.dim(0));
  for (std::int64_t step = 0; step < latents.dim(0); ++step) {
    EXPECT_LE(relative_l2(trajectory.latents.slice(1, step, step + 1).reshape({1, 64, 64}),
                          latents.slice(0, step, step + 1)),
              1e-4)
        << "after step " << step;
  }

  expect_image(drawn.image(), read_png(source_dir() / "tests/golden" /
                                       fmt::format("case{}_fp32_cpu.png", GetParam().index)));
}

TEST_P(Flux1Golden, BFloat16EndsWhereDiffusersEnds) {
  constexpr const char* kFile = "golden_bf16_cuda.safetensors";
  // torch 2.11 drew these, by the older bfloat16 rule.
  const GeneratedOutput drawn = draw(DType::kBF16, NoiseSource::kTorchCpuLegacy);
  const Trajectory& trajectory = drawn.trajectory.value();
  EXPECT_EQ(to_floats(trajectory.initial_latents), to_floats(golden(kFile, "initial_latents")));
  const Tensor latents = golden(kFile, "latents");
  const std::int64_t last = latents.dim(0) - 1;
  EXPECT_GE(cosine(trajectory.latents.slice(1, last, last + 1).reshape({1, 64, 64}),
                   latents.slice(0, last, last + 1)),
            0.999);
}

INSTANTIATE_TEST_SUITE_P(Table, Flux1Golden,
                         Values(GoldenCase{0, "a red apple"},
                                GoldenCase{1, "cat face with tears of joy"},
                                GoldenCase{2, "Rocket on a blue background, flat style"}),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace dither::golden
