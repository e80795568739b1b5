// The demo model on the GPU: against the CPU, and against itself.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/test_util.h"
#include "golden/golden.h"
#include "pipelines/flux1/flux1_components.h"
#include "runtime/load.h"
#include "runtime/quantize.h"

namespace dither::golden {
namespace {

std::filesystem::path demo_model() { return source_dir() / "models/emoji-flux"; }

class CudaPipeline : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device: nothing of this was tested";
  }

  static LoadedPipeline load(std::string_view backend, DType dtype,
                             const std::filesystem::path& transformer = {}) {
    LoadOptions options{.model_path = demo_model(), .dtype = dtype};
    if (!transformer.empty()) options.component_paths["transformer"] = transformer;
    return load_pipeline(options, make_backend(backend));
  }
  /// The demo model's transformer in FP8, calibrated on the CPU.
  static std::filesystem::path quantized_transformer(const std::filesystem::path& folder,
                                                     std::vector<std::string> prompts, int steps) {
    QuantizeOptions options;
    options.load.model_path = demo_model();
    options.load.device = DeviceChoice::kCpu;
    options.output_dir = folder;
    options.prompts = std::move(prompts);
    options.num_inference_steps = steps;
    return quantize_fp8(options, {}).transformer;
  }
  static GeneratedOutput draw(const LoadedPipeline& loaded, const GenerateRequest& request) {
    return std::move(loaded.pipeline->generate(request, {}).outputs.at(0));
  }
  static Tensor last_latents(const GeneratedOutput& drawn) {
    const Tensor& latents = drawn.trajectory.value().latents;
    return latents.slice(1, latents.dim(1) - 1, latents.dim(1));
  }

  GenerateRequest request_ = {.prompt = "a red apple", .seed = 0, .record_trajectory = true};
};

TEST_F(CudaPipeline, BFloat16EndsWhereFloat32OnTheCpuEnds) {
  const LoadedPipeline gpu = load("cuda", DType::kBF16);
  const LoadedPipeline cpu = load("cpu", DType::kF32);
  for (const char* prompt : {"a red apple", "cat face with tears of joy", "rocket"}) {
    request_.prompt = prompt;
    const double similarity =
        cosine(last_latents(draw(gpu, request_)), last_latents(draw(cpu, request_)));
    RecordProperty(prompt, std::to_string(similarity));
    EXPECT_GE(similarity, 0.9995) << prompt;
  }
}

// The first replay calls the kernels, the second captures them, later ones launch a graph; another
// request reuses it.
TEST_F(CudaPipeline, RepeatsItselfBitForBit) {
  const LoadedPipeline gpu = load("cuda", DType::kBF16);
  const GeneratedOutput first = draw(gpu, request_);
  const std::vector<float> latents = to_floats(first.trajectory.value().latents);
  for (int run = 1; run < 100; ++run) {
    const GeneratedOutput again = draw(gpu, request_);
    ASSERT_EQ(again.image(), first.image()) << "run " << run;
    ASSERT_EQ(to_floats(again.trajectory.value().latents), latents) << "run " << run;
  }
  GenerateRequest other = request_;
  other.prompt = "owl";
  const GeneratedOutput through_graph = draw(gpu, other);
  EXPECT_EQ(draw(load("cuda", DType::kBF16), other).image(), through_graph.image());
}

// Graphs of both precisions in one trajectory, and what the approximate tier costs.
TEST_F(CudaPipeline, Fp8AttentionEndsNearby) {
  const LoadedPipeline bf16 = load("cuda", DType::kBF16);
  for (const AttentionSchedule& schedule :
       {AttentionSchedule{.fp8 = true}, AttentionSchedule{.fp8 = true, .first = 3, .last = 3}}) {
    LoadOptions options{.model_path = demo_model(), .dtype = DType::kBF16};
    options.pipeline.attention = schedule;
    const LoadedPipeline fp8 = load_pipeline(options, make_backend("cuda"));
    const GeneratedOutput drawn = draw(fp8, request_);
    const double similarity = cosine(last_latents(drawn), last_latents(draw(bf16, request_)));
    RecordProperty(attention_schedule_name(schedule), std::to_string(similarity));
    EXPECT_GE(similarity, 0.99) << attention_schedule_name(schedule);
    EXPECT_EQ(draw(fp8, request_).image(), drawn.image());
  }
}

// Wherever the weights are, and through plain launches, capture and graph alike.
TEST_F(CudaPipeline, OffloadChangesNoBit) {
  const TempFolder folder;
  const auto fp8 = quantized_transformer(folder.path(), {"a red apple"}, 2);
  for (const auto& transformer : {std::filesystem::path(), fp8}) {
    const GeneratedOutput resident = draw(load("cuda", DType::kBF16, transformer), request_);
    const std::vector<float> latents = to_floats(resident.trajectory.value().latents);
    for (const OffloadOptions& offload :
         {OffloadOptions{.dit_cpu_offload = true}, OffloadOptions{.dit_layerwise_offload = true},
          OffloadOptions{.dit_layerwise_offload = true, .text_encoder_cpu_offload = true}}) {
      LoadOptions options{.model_path = demo_model(), .dtype = DType::kBF16};
      options.pipeline.offload = offload;
      if (!transformer.empty()) options.component_paths["transformer"] = transformer;
      const LoadedPipeline loaded = load_pipeline(options, make_backend("cuda"));
      EXPECT_TRUE(loaded.pipeline->memory_plan().offloads());
      for (int run = 0; run < 3; ++run) {
        const GeneratedOutput drawn = draw(loaded, request_);
        ASSERT_EQ(to_floats(drawn.trajectory.value().latents), latents)
            << summarize(loaded.pipeline->memory_plan()) << ", run " << run;
        ASSERT_EQ(drawn.image(), resident.image());
      }
    }
  }
}

// Every limit either draws the same picture within it or says before loading what is missing.
TEST_F(CudaPipeline, StaysWithinMaxVram) {
  const GeneratedOutput resident = draw(load("cuda", DType::kBF16), request_);
  int drawn = 0;
  int refused = 0;
  int streamed = 0;
  LoadOptions options{.model_path = demo_model(), .dtype = DType::kBF16};
  options.device = DeviceChoice::kCuda;
  // What the driver has beside tensors is an allowance; with all that is planned nothing streams.
  constexpr std::size_t kMiB = std::size_t{1} << 20U;
  const std::size_t enough =
      768 * kMiB + load("cuda", DType::kBF16).pipeline->memory_plan().peak_bytes;
  const std::size_t least = enough / kMiB + 1;
  for (const std::size_t mib : {least, least - 1, least - 3, least - 5, least - 8, least - 10,
                                least - 16, std::size_t{780}}) {
    options.max_vram_bytes = mib * kMiB;
    try {
      const LoadedPipeline loaded = load_pipeline(options);
      EXPECT_EQ(draw(loaded, request_).image(), resident.image()) << mib;
      EXPECT_EQ(draw(loaded, request_).image(), resident.image()) << mib;
      EXPECT_LE(loaded.backend->memory().reserved_bytes, mib * kMiB);
      streamed += loaded.pipeline->memory_plan().offloads() ? 1 : 0;
      RecordProperty(std::to_string(mib), summarize(loaded.pipeline->memory_plan()));
      ++drawn;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted) << error.what();
      RecordProperty(std::to_string(mib), error.what());
      ++refused;
    }
  }
  EXPECT_GT(drawn, streamed);  // the first
  EXPECT_GT(streamed, 0);
  EXPECT_GT(refused, 0);
}

// T5 expands its codes before each product: the same numbers as the CPU's.
TEST_F(CudaPipeline, Fp8TextEncoderEndsWhereTheCpusEnds) {
  const auto with_fp8_text = [](std::string_view backend) {
    LoadOptions options{.model_path = demo_model(), .dtype = DType::kBF16};
    options.pipeline.fp8_text_encoder = true;
    return load_pipeline(options, make_backend(backend));
  };
  const LoadedPipeline gpu = with_fp8_text("cuda");
  const LoadedPipeline cpu = with_fp8_text("cpu");
  for (const char* prompt : {"a red apple", "rocket"}) {
    request_.prompt = prompt;
    const GeneratedOutput drawn = draw(gpu, request_);
    const double similarity = cosine(last_latents(drawn), last_latents(draw(cpu, request_)));
    RecordProperty(prompt, std::to_string(similarity));
    EXPECT_GE(similarity, 0.9995) << prompt;  // as BFloat16EndsWhereFloat32OnTheCpuEnds
    EXPECT_EQ(draw(gpu, request_).image(), drawn.image());
  }
  for (const ComponentAttestation& component : gpu.pipeline->attestation()) {
    if (component.component != "text_encoder_2") continue;
    for (const LayerAttestation& layer : component.layers) {
      EXPECT_EQ(layer.executed.kernel, "cuda bf16, e4m3 weights") << layer.executed.name;
    }
  }
}

TEST_F(CudaPipeline, TrueCfgRunsThroughTheGraph) {
  request_.negative_prompt = "blue";
  request_.true_cfg_scale = 2.0;
  request_.num_inference_steps = 6;
  const Tensor gpu = last_latents(draw(load("cuda", DType::kF32), request_));
  const Tensor cpu = last_latents(draw(load("cpu", DType::kF32), request_));
  EXPECT_LE(relative_l2(gpu, cpu), 1e-4);
}

TEST_F(CudaPipeline, Fp8EndsWhereTheCpusFp8Ends) {
  const TempFolder folder;
  const auto transformer = quantized_transformer(folder.path(), {"a red apple", "rocket"}, 4);
  const LoadedPipeline gpu = load("cuda", DType::kBF16, transformer);
  const LoadedPipeline cpu = load("cpu", DType::kBF16, transformer);
  for (const ComponentAttestation& component : gpu.pipeline->attestation()) {
    if (component.component == "transformer") {
      EXPECT_EQ(summarize(component), "transformer: 52 FP8, 10 BF16 by exclusion, 0 silent");
    }
  }
  for (const char* prompt : {"a red apple", "cat face with tears of joy", "rocket"}) {
    request_.prompt = prompt;
    const double similarity =
        cosine(last_latents(draw(gpu, request_)), last_latents(draw(cpu, request_)));
    RecordProperty(prompt, std::to_string(similarity));
    EXPECT_GE(similarity, 0.999) << prompt;
  }
}

}  // namespace
}  // namespace dither::golden
