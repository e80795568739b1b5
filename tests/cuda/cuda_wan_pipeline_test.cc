// The tiny Wan pipeline of tests/golden/wan on the GPU: against itself, where its weights are, and
// against the CPU in bfloat16. tests/golden holds it against diffusers in float32.
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "golden/golden.h"
#include "runtime/load.h"

namespace dither::golden {
namespace {

class CudaWan : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device: nothing of this was tested";
  }

  static LoadedPipeline load(std::string_view backend, const OffloadOptions& offload = {}) {
    LoadOptions options{.model_path = source_dir() / "tests/golden/wan/pipeline"};
    options.pipeline.offload = offload;
    return load_pipeline(options, make_backend(backend));
  }
  static GeneratedOutput film(const LoadedPipeline& loaded, const GenerateRequest& request) {
    return std::move(loaded.pipeline->generate(request, {}).outputs.at(0));
  }
  static Tensor last_latents(const GeneratedOutput& output) {
    const Tensor& latents = output.trajectory.value().latents;
    return latents.slice(1, latents.dim(1) - 1, latents.dim(1));
  }

  GenerateRequest request_ = {.prompt = "a red fox", .seed = 7, .record_trajectory = true};
};

TEST_F(CudaWan, EndsWhereTheCpuEnds) {
  EXPECT_GE(
      cosine(last_latents(film(load("cuda"), request_)), last_latents(film(load("cpu"), request_))),
      0.999);
}

/// Each expert's step is called, captured and launched; requests of other shapes and scales come
/// between.
TEST_F(CudaWan, RepeatsItself) {
  const LoadedPipeline gpu = load("cuda");
  const GeneratedOutput first = film(gpu, request_);
  GenerateRequest other = request_;
  other.num_frames = 5;
  other.guidance_scale = 1;
  const GeneratedOutput between = film(gpu, other);
  for (int run = 0; run < 3; ++run) EXPECT_EQ(film(gpu, request_).frames, first.frames) << run;
  EXPECT_EQ(film(gpu, other).frames, between.frames);
}

/// Two outputs, so that the experts change places more than once; with guidance and without, since
/// blocks of the second come behind the last use of the first's.
TEST_F(CudaWan, OffloadChangesNoBit) {
  request_.num_outputs_per_prompt = 2;
  const auto frames = [&](const LoadedPipeline& loaded, std::optional<double> guidance_scale) {
    request_.guidance_scale = guidance_scale;
    std::vector<std::vector<Image>> all;
    for (GeneratedOutput& output : loaded.pipeline->generate(request_, {}).outputs) {
      all.push_back(std::move(output.frames));
    }
    return all;
  };
  const LoadedPipeline resident = load("cuda");
  const auto guided = frames(resident, {});
  const auto unguided = frames(resident, 1);
  EXPECT_NE(guided, unguided);
  for (const OffloadOptions& offload :
       {OffloadOptions{.dit_cpu_offload = true}, OffloadOptions{.dit_layerwise_offload = true},
        OffloadOptions{.dit_cpu_offload = true, .text_encoder_cpu_offload = true}}) {
    const LoadedPipeline loaded = load("cuda", offload);
    EXPECT_TRUE(loaded.pipeline->memory_plan().offloads());
    EXPECT_EQ(frames(loaded, {}), guided);
    EXPECT_EQ(frames(loaded, 1), unguided);
    EXPECT_EQ(frames(loaded, {}), guided);
  }
}

}  // namespace
}  // namespace dither::golden
