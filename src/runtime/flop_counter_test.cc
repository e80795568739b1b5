#include "runtime/flop_counter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "backends/cpu/cpu_backend.h"
#include "ops/ops.h"
#include "runtime/load.h"

namespace dither {
namespace {

/// A product of [2, 3] and [4, 3]: 2 * 2 * 3 * 4 operations.
constexpr std::int64_t kFlops = 48;

class FlopCounterTest : public ::testing::Test {
 protected:
  FlopCounterTest() {
    const Tensor weight = Tensor::host({4, 3}, DType::kF32);
    std::fill_n(weight.data<float>(), 12, 1.0F);
    const ops::LinearShard shard{.name = "w", .weight = weight, .bias = {}};
    weights_ = counter_.prepare_linear({&shard, 1}, DType::kF32);
    const Tensor host = Tensor::host({2, 3}, DType::kF32);
    std::fill_n(host.data<float>(), 6, 1.0F);
    x_ = counter_.upload(host, DType::kF32);
    y_ = Tensor::empty({2, 4}, DType::kF32, counter_);
  }
  void multiply() { counter_.linear(x_, *weights_, {}, y_); }

  FlopCounter counter_{cpu::make_cpu_reference_backend()};
  std::unique_ptr<ops::PreparedLinear> weights_;
  Tensor x_;
  Tensor y_;
};

TEST_F(FlopCounterTest, CountsByRegionSinceTheLastTrace) {
  multiply();
  const auto kernels = counter_.trace([&] {
    multiply();
    const ops::Region stage(counter_, "stage");
    for (int i = 0; i < 3; ++i) {
      const ops::Region block(counter_, i == 1 ? "b" : "a");
      multiply();
    }
  });
  EXPECT_TRUE(kernels.empty());  // nothing of the CPU's has kernels
  EXPECT_EQ(counter_.flops(), 5 * kFlops);
  EXPECT_EQ(counter_.region_flops(),
            (std::map<std::string, std::int64_t>{
                {"", kFlops}, {"stage/a", 2 * kFlops}, {"stage/b", kFlops}}));
}

TEST_F(FlopCounterTest, CountsEveryTapOfAVideoConvolution) {
  ops::Conv3dWeights weights;
  weights.weight = Tensor::host({5, 2, 3, 1, 1}, DType::kF32);
  const auto conv = counter_.prepare_conv3d(weights, DType::kF32);
  const Tensor video = counter_.upload(Tensor::host({1, 4, 2, 3, 2}, DType::kF32), DType::kF32);
  ops::conv3d(video, *conv);
  EXPECT_EQ(counter_.flops(), 2 * (2 * 2 * 3) * 5 * 2 * 3);  // 2 frames of 2 x 3 pixels
}

/// A backend that has an attention of codes, as far as room for them goes.
class CodesBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  ops::BackendTraits traits() const override { return {.e4m3_attention = true}; }
  ops::E4m3Values e4m3_values(const Shape& heads) const override { return {heads, {3}}; }
  void norm_rope_heads(std::span<const ops::PackedQkv> /*streams*/, const ops::Rope& /*rope*/,
                       float /*eps*/, const ops::AttentionOperands& /*out*/) override {}
};

// An op checks that its operands are of one backend.
TEST(FlopCounter, CodesOfAnAttentionAreItsOwn) {
  FlopCounter counter(std::make_unique<CodesBackend>(cpu::make_cpu_reference_backend()));
  const auto zeros = [&](const Shape& shape, DType dtype) {
    return counter.upload(Tensor::host(shape, dtype), dtype);
  };
  const ops::PackedQkv packed{zeros({1, 2, 3 * 16}, DType::kBF16), zeros({16}, DType::kBF16),
                              zeros({16}, DType::kBF16)};
  const ops::Rope rope{zeros({2, 8}, DType::kF32), zeros({2, 8}, DType::kF32)};
  const auto heads =
      ops::norm_rope_heads({&packed, 1}, rope, 1, 1e-6F, ops::AttentionPrecision::kE4m3);
  for (const Tensor* tensor : {&heads.q, &heads.k, &heads.v, &heads.v_scale}) {
    EXPECT_EQ(&ops::backend_of(*tensor), &counter);
  }
  EXPECT_EQ(heads.v_scale.shape(), Shape{3});
}

TEST_F(FlopCounterTest, ARecordingCountsInTheRegionOfItsReplay) {
  const auto recording = counter_.record([this] { multiply(); });
  counter_.trace([&] {
    const ops::Region region(counter_, "replay");
    recording->replay();
    recording->replay();
  });
  EXPECT_EQ(counter_.flops(), 2 * kFlops);
  EXPECT_EQ(counter_.region_flops(), (std::map<std::string, std::int64_t>{{"replay", 2 * kFlops}}));
}

/// What a trace's kernels are named after, where there is no device to trace.
TEST(PipelineRegions, NameStagesStepsAndBlocks) {
  auto owned = std::make_unique<FlopCounter>(cpu::make_cpu_backend());
  const FlopCounter& counter = *owned;
  const LoadedPipeline loaded =
      load_pipeline({.model_path = std::filesystem::path(DITHER_SOURCE_DIR) / "models/emoji-flux"},
                    std::move(owned));
  GenerateRequest request{.prompt = "a red apple"};
  request.num_inference_steps = 2;
  const std::int64_t before = counter.flops();
  loaded.backend->trace([&] { loaded.pipeline->generate(request, {}); });

  const std::map<std::string, std::int64_t>& flops = counter.region_flops();
  std::int64_t sum = 0;
  for (const auto& [region, count] : flops) sum += count;
  EXPECT_EQ(sum, counter.flops() - before);
  EXPECT_FALSE(flops.contains(""));
  for (const char* region :
       {"TextEncodingStage/text_encoder_2/encoder.block.1",
        "TextEncodingStage/text_encoder/text_model.encoder.layers.1", "DenoisingStage",
        "DenoisingStage/step 1", "DecodingStage/decoder.mid_block",
        "DecodingStage/decoder.up_blocks.1"}) {
    EXPECT_TRUE(flops.contains(region)) << region;
  }
  for (const char* block : {"transformer_blocks.0", "transformer_blocks.1",
                            "single_transformer_blocks.0", "single_transformer_blocks.1"}) {
    const auto first = flops.find(std::string("DenoisingStage/step 1/") + block);
    const auto second = flops.find(std::string("DenoisingStage/step 2/") + block);
    ASSERT_TRUE(first != flops.end() && second != flops.end()) << block;
    EXPECT_EQ(first->second, second->second) << block;
  }
}

}  // namespace
}  // namespace dither
