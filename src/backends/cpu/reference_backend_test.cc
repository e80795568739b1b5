#include "backends/cpu/reference_backend.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/strided.h"
#include "base/error.h"
#include "ops/ops.h"

namespace dither::cpu {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

/// Hand-computed values: every number below was worked out from the op's formula on paper.
class ReferenceOps : public ::testing::Test {
 protected:
  Tensor tensor(const Shape& shape, const std::vector<float>& values, DType dtype = DType::kF32) {
    Tensor result = Tensor::empty(shape, dtype, *backend_);
    from_floats(values, result);
    return result;
  }
  static Tensor host(const Shape& shape, const std::vector<float>& values) {
    Tensor result = Tensor::host(shape, DType::kF32);
    from_floats(values, result);
    return result;
  }

  std::unique_ptr<ops::Backend> backend_ = make_cpu_reference_backend();
};

TEST_F(ReferenceOps, LinearAppliesBiasActivationGateAndResidualInThatOrder) {
  // [1 2] W^T with rows (3, 4) and (5, 6) in two shards: 11 and 17; bias 1 and -20: 12 and -3.
  const std::vector<ops::LinearShard> shards = {{"q", host({1, 2}, {3, 4}), host({1}, {1})},
                                                {"k", host({1, 2}, {5, 6}), host({1}, {-20})}};
  const auto layer = backend_->prepare_linear(shards, DType::kF32);
  const Tensor x = tensor({1, 1, 2}, {1, 2});
  EXPECT_THAT(to_floats(ops::linear(x, *layer)), ElementsAre(12, -3));
  ops::LinearEpilogue epilogue;
  epilogue.gate = tensor({1, 2}, {2, 10});
  epilogue.residual = tensor({1, 1, 2}, {100, 200});
  EXPECT_THAT(to_floats(ops::linear(x, *layer, epilogue)), ElementsAre(124, 170));
  epilogue.activation = ops::Activation::kSilu;  // silu(-3) = -3 / (1 + e^3) = -0.1422776
  EXPECT_THAT(to_floats(ops::linear(x, *layer, epilogue)),
              Pointwise(FloatNear(1e-5F), {123.9998525F, 198.5772238F}));
}

TEST_F(ReferenceOps, GateBelongsToItsSample) {
  const std::vector<ops::LinearShard> shards = {{"one", host({1, 1}, {1}), {}}};
  const auto layer = backend_->prepare_linear(shards, DType::kF32);
  ops::LinearEpilogue epilogue;
  epilogue.gate = tensor({2, 1}, {1, 10});
  EXPECT_THAT(to_floats(ops::linear(tensor({2, 2, 1}, {1, 2, 3, 4}), *layer, epilogue)),
              ElementsAre(1, 2, 30, 40));
}

TEST_F(ReferenceOps, Norms) {
  // (1, 3): mean 2, variance 1, normed (-1, 1); mean square 5.
  const Tensor x = tensor({1, 1, 2}, {1, 3});
  EXPECT_THAT(to_floats(ops::layer_norm(x, {}, {}, 0)), ElementsAre(-1, 1));
  EXPECT_THAT(to_floats(ops::layer_norm(x, tensor({2}, {2, 3}), tensor({2}, {10, 20}), 0)),
              ElementsAre(8, 23));
  EXPECT_THAT(
      to_floats(ops::layer_norm_modulate(x, tensor({1, 2}, {5, 6}), tensor({1, 2}, {1, 2}), 0)),
      ElementsAre(3, 9));
  EXPECT_THAT(to_floats(ops::rms_norm(x, tensor({2}, {1, 2}), 4)),
              Pointwise(FloatNear(1e-6F), {1 / 3.0F, 2.0F}));
  // Two groups of one channel: (1, 3) and (2, 6) over the two pixels both become (-1, 1).
  const Tensor image = tensor({1, 1, 2, 2}, {1, 2, 3, 6});
  EXPECT_THAT(to_floats(ops::group_norm(image, 2, tensor({2}, {1, 2}), tensor({2}, {0, 1}), 0,
                                        ops::Activation::kNone)),
              ElementsAre(-1, -1, 1, 3));
}

TEST_F(ReferenceOps, RopeRotatesPairsAndJoinsStreams) {
  // One head of 2 channels; the root mean square of (3, 4) is sqrt(12.5).
  const float r = 1 / std::sqrt(12.5F);
  const Tensor text = tensor({1, 1, 6}, {3, 4, 4, 3, 7, 8});
  const Tensor image = tensor({1, 1, 6}, {3, 4, 4, 3, 9, 10});
  const Tensor ones = tensor({2}, {1, 1});
  const ops::Rope rope{tensor({2, 1}, {1, 0}), tensor({2, 1}, {0, 1})};  // 0 and 90 degrees
  const std::vector<ops::PackedQkv> streams = {{text, ones, ones}, {image, ones, ones}};
  const auto out = ops::norm_rope_heads(streams, rope, 1, 0);
  EXPECT_THAT(to_floats(out.q), Pointwise(FloatNear(1e-6F), {3 * r, 4 * r, -4 * r, 3 * r}));
  EXPECT_THAT(to_floats(out.k), Pointwise(FloatNear(1e-6F), {4 * r, 3 * r, -3 * r, 4 * r}));
  EXPECT_THAT(to_floats(out.v), ElementsAre(7, 8, 9, 10));
}

TEST_F(ReferenceOps, NormsOfAllHeadsTogether) {
  // Two heads of 2 channels; the root mean square of (3, 4, 0, 0) is 5/2, that of (0, 0, 6, 8) 5.
  const Tensor qkv = tensor({1, 1, 12}, {3, 4, 0, 0, 0, 0, 6, 8, 1, 2, 3, 4});
  const Tensor weight = tensor({4}, {1, 2, 1, 2});
  const ops::Rope rope{tensor({1, 1}, {0}), tensor({1, 1}, {1})};  // 90 degrees
  const ops::PackedQkv packed{qkv, weight, weight};
  const auto out = ops::norm_rope_heads({&packed, 1}, rope, 2, 0);
  EXPECT_THAT(to_floats(out.q), Pointwise(FloatNear(1e-6F), {-3.2F, 1.2F, 0.0F, 0.0F}));
  EXPECT_THAT(to_floats(out.k), Pointwise(FloatNear(1e-6F), {0.0F, 0.0F, -3.2F, 1.2F}));
  EXPECT_THAT(to_floats(out.v), ElementsAre(1, 2, 3, 4));
}

TEST_F(ReferenceOps, AttentionWeighsValuesBySoftmax) {
  // Scores 0 and ln 3 for both queries: weights 1/4 and 3/4.
  const Tensor q = tensor({1, 2, 1, 1}, {1, 1});
  const Tensor k = tensor({1, 2, 1, 1}, {0, std::log(3.0F)});
  const Tensor v = tensor({1, 2, 1, 1}, {4, 8});
  EXPECT_THAT(to_floats(ops::attention({q, k, v}, {})), Pointwise(FloatNear(1e-5F), {7.0F, 7.0F}));
  EXPECT_THAT(to_floats(ops::attention({q, k, v}, {.causal = true})),
              Pointwise(FloatNear(1e-5F), {4.0F, 7.0F}));
  // A bias of ln 3 on the first key evens the weights out.
  const float l = std::log(3.0F);
  EXPECT_THAT(to_floats(ops::attention({q, k, v}, {.bias = tensor({1, 2, 2}, {l, 0, l, 0})})),
              Pointwise(FloatNear(1e-5F), {6.0F, 6.0F}));
}

TEST_F(ReferenceOps, ConvolutionPadsEachSideOnItsOwn) {
  // 2 x 2 image, kernel [[1, 2], [3, 4]], one zero row below and one zero column to the right.
  ops::Conv2dWeights weights{"conv", host({1, 1, 2, 2}, {1, 2, 3, 4}), host({1}, {100})};
  weights.padding = {0, 0, 1, 1};
  const auto conv = backend_->prepare_conv2d(weights, DType::kF32);
  const Tensor x = tensor({1, 2, 2, 1}, {1, 2, 3, 4});
  EXPECT_THAT(to_floats(ops::conv2d(x, *conv)), ElementsAre(130, 114, 111, 104));
  weights.stride = 2;
  const auto strided = backend_->prepare_conv2d(weights, DType::kF32);
  EXPECT_THAT(to_floats(ops::conv2d(x, *strided, tensor({1, 1, 1, 1}, {1000}))), ElementsAre(1130));
}

TEST_F(ReferenceOps, VideoConvolutionStridesInTime) {
  // Frames of 1 x 2 pixels, kernel rows (1, 2) at frame t and (10, 20) at t + 1; bias 1000.
  ops::Conv3dWeights weights{"conv", host({1, 1, 2, 1, 2}, {1, 2, 10, 20}), host({1}, {1000})};
  const Tensor x = tensor({1, 3, 1, 2, 1}, {1, 2, 3, 4, 5, 6});
  const auto conv = backend_->prepare_conv3d(weights, DType::kF32);
  EXPECT_THAT(to_floats(ops::conv3d(x, *conv)), ElementsAre(1115, 1181));
  weights.stride_t = 2;
  weights.padding = {0, 1, 0, 0};  // a zero column to the left
  const auto strided = backend_->prepare_conv3d(weights, DType::kF32);
  EXPECT_THAT(to_floats(ops::conv3d(x, *strided, tensor({1, 1, 1, 2, 1}, {0.5, 0.25}))),
              ElementsAre(1062.5, 1115.25));
}

TEST_F(ReferenceOps, ChannelNormDividesByTheEuclideanNorm) {
  // |(3, 4)| = 5: (0.6, 0.8) sqrt(2) (1, 10). Rows too short to have a direction are divided by
  // 1e-12.
  const Tensor x = tensor({3, 2}, {3, 4, 0, 0, 0, 1e-13F});
  const float root = std::sqrt(2.0F);
  EXPECT_THAT(to_floats(ops::channel_norm(x, tensor({2}, {1, 10}), ops::Activation::kNone)),
              Pointwise(FloatNear(1e-6F), {0.6F * root, 8 * root, 0.0F, 0.0F, 0.0F, root}));
  // Into a part of a larger tensor: silu(sqrt(2)) = sqrt(2) / (1 + e^-sqrt(2))
  const Tensor buffer = tensor({1, 3}, {7, 7, 7});
  ops::channel_norm(tensor({1, 2}, {1, 1}), tensor({2}, {std::sqrt(2.0F), 1}),
                    ops::Activation::kSilu, {.tensor = buffer.slice(1, 1, 3)});
  EXPECT_THAT(to_floats(buffer), Pointwise(FloatNear(1e-5F), {7.0F, 1.1376353F, 0.7310586F}));
}

TEST_F(ReferenceOps, ElementwiseAndShuffles) {
  const Tensor x = tensor({2, 2}, {1, 2, 3, 4});
  EXPECT_THAT(to_floats(ops::add(x, tensor({2}, {10, 20}))), ElementsAre(11, 22, 13, 24));
  EXPECT_THAT(to_floats(ops::add_scaled(x, x, 0.5F)), ElementsAre(1.5, 3, 4.5, 6));
  EXPECT_THAT(to_floats(ops::affine(x, 2, -1)), ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(to_floats(ops::gated_activation(x, ops::Activation::kNone)), ElementsAre(2, 12));
  EXPECT_THAT(to_floats(ops::concat({x, x}, 1)), ElementsAre(1, 2, 1, 2, 3, 4, 3, 4));
  EXPECT_THAT(to_floats(ops::contiguous(x.permute({1, 0}))), ElementsAre(1, 3, 2, 4));
  EXPECT_THAT(to_floats(ops::upsample_nearest2x(x.reshape({1, 1, 2, 2}))),
              ElementsAre(1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4));
}

TEST_F(ReferenceOps, PixelsAreScaledClampedAndRounded) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  // 127.5 lies between two levels and goes to the even one; 2/255 is one level.
  const Tensor x = tensor({12}, {-1, 0, 1, -7, 7, 1.0F / 255, 3.0F / 255, -0.5F, 0.5F,
                                 std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity});
  const Tensor pixels = backend_->download(ops::to_pixels(x));
  ASSERT_EQ(pixels.dtype(), DType::kU8);
  const auto* const levels = pixels.data<std::uint8_t>();
  EXPECT_THAT(std::vector<int>(levels, levels + 12),
              ElementsAre(0, 128, 255, 0, 255, 128, 129, 64, 191, 0, 255, 0));
}

TEST_F(ReferenceOps, ActivationsAtOne) {
  const Tensor one = tensor({1}, {1});
  const auto value = [&](ops::Activation kind) { return to_floats(ops::activate(one, kind))[0]; };
  EXPECT_FLOAT_EQ(value(ops::Activation::kNone), 1);
  EXPECT_FLOAT_EQ(value(ops::Activation::kSilu), 0.73105858F);       // 1 / (1 + e^-1)
  EXPECT_FLOAT_EQ(value(ops::Activation::kQuickGelu), 0.84579577F);  // 1 / (1 + e^-1.702)
  EXPECT_FLOAT_EQ(value(ops::Activation::kGeluTanh), 0.84119199F);
}

TEST_F(ReferenceOps, EmbeddingRefusesForeignIds) {
  const Tensor table = tensor({2, 2}, {1, 2, 3, 4});
  Tensor ids = Tensor::host({1, 2}, DType::kI32);
  ids.data<std::int32_t>()[0] = 1;
  EXPECT_THAT(to_floats(ops::embedding(table, backend_->upload(ids, DType::kI32))),
              ElementsAre(3, 4, 1, 2));
  ids.data<std::int32_t>()[1] = 2;
  try {
    ops::embedding(table, backend_->upload(ids, DType::kI32));
    FAIL() << "id 2 of a table of 2 rows was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("id 2 at position 1"));
  }
}

TEST_F(ReferenceOps, RoundsOnceToBf16) {
  // 1 + 2^-8 is half way between two bf16 numbers; 1 + 3 * 2^-9 is nearer to the upper one. A
  // second rounding inside the sum 1 + 2^-8 + 2^-9 would lose it.
  const Tensor x = tensor({1, 1, 2}, {1, 0.00390625F}, DType::kBF16);
  const std::vector<ops::LinearShard> shards = {
      {"sum", host({1, 2}, {1, 1}), host({1}, {0.001953125F})}};
  const auto layer = backend_->prepare_linear(shards, DType::kBF16);
  EXPECT_THAT(to_floats(ops::linear(x, *layer)), ElementsAre(1.0078125F));
}

TEST(HostMemory, CountsAndReusesBlocks) {
  const auto backend = make_cpu_reference_backend();
  const void* first = nullptr;
  {
    const Tensor x = Tensor::empty({1000}, DType::kF32, *backend);
    first = x.raw();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % 64, 0U);
    EXPECT_GE(backend->memory().allocated_bytes, 4000U);
    EXPECT_LE(backend->memory().allocated_bytes, 5000U);  // at most a quarter of slack
  }
  EXPECT_EQ(backend->memory().allocated_bytes, 0U);
  EXPECT_GE(backend->memory().peak_bytes, 4000U);
  const Tensor again = Tensor::empty({1000}, DType::kF32, *backend);
  EXPECT_EQ(again.raw(), first);
}

TEST(HostBackend, UploadSharesBytesOfTheSameDtypeOnly) {
  const auto backend = make_cpu_reference_backend();
  const Tensor host = Tensor::host({4}, DType::kF32);
  EXPECT_EQ(backend->upload(host, DType::kF32).raw(), host.raw());
  EXPECT_EQ(backend->upload(host, DType::kBF16).dtype(), DType::kBF16);
  EXPECT_EQ(backend->memory().peak_bytes, 256U);  // the conversion's block alone
}

TEST(HostBackend, UploadRealignsCheckpointBytes) {
  const auto backend = make_cpu_reference_backend();
  const Tensor bytes = Tensor::host({9}, DType::kU8);
  bytes.data<std::uint8_t>()[4] = 0x3F;  // 0x3F800000 is 1.0 at byte 1, little-endian
  bytes.data<std::uint8_t>()[3] = 0x80;
  const Tensor unaligned = Tensor::view(bytes.storage(), 1, {2}, DType::kF32);
  EXPECT_THAT(to_floats(backend->upload(unaligned, DType::kF32)), ElementsAre(1, 0));
}

}  // namespace
}  // namespace dither::cpu
