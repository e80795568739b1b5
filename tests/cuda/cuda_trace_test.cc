// Traces of the demo model on the GPU: every kernel knows its layer, and tracing changes nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "golden/golden.h"
#include "ops/region.h"
#include "runtime/load.h"

namespace dither::golden {
namespace {

using ::testing::Contains;
using ::testing::Key;
using ::testing::Not;

class CudaTrace : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device: nothing of this was tested";
  }
};

TEST_F(CudaTrace, EveryKernelOfARequestIsInALayer) {
  const LoadedPipeline gpu =
      load_pipeline({.model_path = source_dir() / "models/emoji-flux", .dtype = DType::kBF16},
                    make_backend("cuda"));
  GenerateRequest request{.prompt = "a red apple"};
  request.num_inference_steps = 4;
  const Image before =
      gpu.pipeline->generate(request, {}).outputs.at(0).image();  // makes the graph
  Image traced;
  const auto kernels = gpu.backend->trace(
      [&] { traced = gpu.pipeline->generate(request, {}).outputs.at(0).image(); });
  EXPECT_EQ(traced, before);
  EXPECT_EQ(gpu.pipeline->generate(request, {}).outputs.at(0).image(), before);

  std::map<std::string, int> by_region;
  for (const ops::KernelRecord& kernel : kernels) ++by_region[kernel.region];
  EXPECT_THAT(by_region, Not(Contains(Key(""))));
  for (const char* region :
       {"TextEncodingStage/text_encoder_2/encoder.block.0",
        "TextEncodingStage/text_encoder/text_model.encoder.layers.0", "DenoisingStage/step 1",
        "DenoisingStage/step 1/transformer_blocks.0",
        "DenoisingStage/step 4/single_transformer_blocks.0", "DecodingStage/decoder.mid_block",
        "DecodingStage/decoder.up_blocks.0"}) {
    EXPECT_THAT(by_region, Contains(Key(region)));
  }
  // Steps, and blocks of one kind, are the same kernels.
  for (const auto& [region, count] : by_region) {
    if (!region.starts_with("DenoisingStage/step ")) continue;
    const std::string in_first = "DenoisingStage/step 1" + region.substr(region.find(' ') + 2);
    EXPECT_EQ(count, by_region[in_first]) << region;
  }
}

TEST_F(CudaTrace, InnerRegionsComeBackToTheOuter) {
  const auto backend = make_backend("cuda");
  const Tensor host = Tensor::host({4}, DType::kF32);
  std::fill_n(host.data<float>(), 4, 1.0F);
  const Tensor x = backend->upload(host, DType::kF32);
  const ops::Region around(*backend, "around");
  const auto kernels = backend->trace([&] {
    {
      const ops::Region outer(*backend, "outer");
      ops::add(x, x);
      {
        const ops::Region inner(*backend, "inner");
        ops::add(x, x);
      }
      ops::add(x, x);
    }
    ops::add(x, x);
  });
  std::vector<std::string> regions;
  for (const ops::KernelRecord& kernel : kernels) regions.push_back(kernel.region);
  // The last one is in a region that the trace did not see begin.
  EXPECT_EQ(regions,
            (std::vector<std::string>{"around/outer", "around/outer/inner", "around/outer", ""}));
}

TEST_F(CudaTrace, WorkThatThrowsEndsTheTrace) {
  const auto backend = make_backend("cuda");
  const auto failing = [&] {
    const ops::Region region(*backend, "failing");
    throw Error(ErrorCode::kCancelled, "enough");
  };
  EXPECT_THROW(backend->trace(failing), Error);
  EXPECT_TRUE(backend->trace([] {}).empty());
}

}  // namespace
}  // namespace dither::golden
