#include "runtime/work_counter.h"

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

/// A product of [2, 3] and [4, 3]: 2 * 2 * 3 * 4 operations on 6 numbers, 12 weights, 4 biases
/// (zeros, where there are none) and 8 results.
constexpr std::int64_t kFlops = 48;
constexpr Work kWork = {.flops = kFlops, .bytes = 30 * 4};

class WorkCounterTest : public ::testing::Test {
 protected:
  WorkCounterTest() {
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

  WorkCounter counter_{cpu::make_cpu_reference_backend()};
  std::unique_ptr<ops::PreparedLinear> weights_;
  Tensor x_;
  Tensor y_;
};

TEST_F(WorkCounterTest, CountsByOperationDuringATrace) {
  multiply();
  const auto kernels = counter_.trace([&] {
    multiply();
    const ops::Region stage(counter_, "stage");
    for (int i = 0; i < 3; ++i) {
      const ops::Region block(counter_, i == 1 ? "b" : "a");
      multiply();
    }
    ops::add(y_, y_);
  });
  multiply();
  EXPECT_TRUE(kernels.empty());  // nothing of the CPU's has kernels
  EXPECT_EQ(counter_.flops(), 6 * kFlops);
  Work twice = kWork;
  twice += kWork;
  EXPECT_EQ(counter_.traced(),
            (std::map<std::string, Work>{{"linear", kWork},
                                         {"stage/a/linear", twice},
                                         {"stage/add", {.flops = 0, .bytes = 3 * 8 * 4}},
                                         {"stage/b/linear", kWork}}));
}

/// A backend that answers otherwise than one that knows nothing, where there is a default.
class OwnAnswers final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  std::string description() const override { return "own"; }
  ops::BackendTraits traits() const override { return {.strided_results = true}; }
  std::optional<std::size_t> available_memory() const override { return 7; }
  std::int64_t conv3d_row_channels(std::int64_t channels, DType /*dtype*/) const override {
    return channels + 1;
  }
};

TEST(WorkCounter, AnswersAsTheOtherBackendDoes) {
  const WorkCounter counter(std::make_unique<OwnAnswers>(cpu::make_cpu_reference_backend()));
  EXPECT_EQ(counter.description(), "own");
  EXPECT_TRUE(counter.traits().strided_results);
  EXPECT_EQ(counter.available_memory(), 7U);
  EXPECT_EQ(counter.conv3d_row_channels(96, DType::kBF16), 97);
}

TEST_F(WorkCounterTest, CountsEveryTapOfAVideoConvolution) {
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
TEST(WorkCounter, CodesOfAnAttentionAreItsOwn) {
  WorkCounter counter(std::make_unique<CodesBackend>(cpu::make_cpu_reference_backend()));
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

TEST_F(WorkCounterTest, ARecordingCountsInTheRegionOfItsReplay) {
  const auto recording = counter_.record([this] { multiply(); });
  counter_.trace([&] {
    const ops::Region region(counter_, "replay");
    recording->replay();
    recording->replay();
  });
  EXPECT_EQ(counter_.flops(), 2 * kFlops);
  Work twice = kWork;
  twice += kWork;
  EXPECT_EQ(counter_.traced(), (std::map<std::string, Work>{{"replay/linear", twice}}));
}

/// What a trace's kernels are named after, where there is no device to trace.
TEST(PipelineRegions, NameStagesStepsAndBlocks) {
  auto owned = std::make_unique<WorkCounter>(cpu::make_cpu_backend());
  const WorkCounter& counter = *owned;
  const LoadedPipeline loaded =
      load_pipeline({.model_path = std::filesystem::path(DITHER_SOURCE_DIR) / "models/emoji-flux"},
                    std::move(owned));
  GenerateRequest request{.prompt = "a red apple"};
  request.num_inference_steps = 2;
  const std::int64_t before = counter.flops();
  loaded.backend->trace([&] { loaded.pipeline->generate(request, {}); });

  std::map<std::string, std::int64_t> flops;  // by layer
  std::int64_t sum = 0;
  for (const auto& [region, work] : counter.traced()) {
    EXPECT_GT(work.bytes, 0) << region;
    sum += work.flops;
    if (work.flops > 0) flops[region.substr(0, region.rfind('/'))] += work.flops;
  }
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
