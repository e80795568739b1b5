#include <gmock/gmock.h>

#include <functional>

#include "backends/cpu/cpu_backend.h"
#include "base/error.h"
#include "ops/ops.h"

namespace dither::ops {
namespace {

using ::testing::HasSubstr;

/// src/ops refuses operands that do not fit before any kernel sees them; the message names the
/// op and the operand. Tested here because it takes a backend to hold operands.
class OpsChecks : public ::testing::Test {
 protected:
  Tensor make(const Shape& shape, DType dtype = DType::kF32) {
    return backend_->upload(Tensor::host(shape, dtype), dtype);
  }
  static void refuses(const std::function<void()>& call, const char* op, const char* operand) {
    try {
      call();
      FAIL() << op << " accepted a wrong " << operand;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(op));
      EXPECT_THAT(error.what(), HasSubstr(operand));
    }
  }

  std::unique_ptr<Backend> backend_ = cpu::make_cpu_reference_backend();
};

TEST_F(OpsChecks, Linear) {
  const LinearShard shard{"w", Tensor::host({4, 8}, DType::kF32), {}};
  const auto layer = backend_->prepare_linear({&shard, 1}, DType::kF32);
  const Tensor x = make({2, 3, 8});
  const auto with = [&](const Tensor& gate, const Tensor& residual) {
    LinearEpilogue epilogue;
    epilogue.gate = gate;
    epilogue.residual = residual;
    linear(x, *layer, epilogue);
  };
  refuses([&] { linear(make({3, 7}), *layer); }, "linear", "x");
  refuses([&] { linear(make({3, 8}, DType::kI32), *layer); }, "linear", "x");
  refuses([&] { with(make({1, 4}), {}); }, "linear", "gate");
  refuses([&] { with(make({2, 4}, DType::kBF16), {}); }, "linear", "gate");
  refuses([&] { with({}, make({2, 3, 5})); }, "linear", "residual");
}

TEST_F(OpsChecks, Norms) {
  const Tensor x = make({2, 3, 8});
  const Tensor image = make({1, 2, 2, 6});
  refuses([&] { layer_norm(x, make({8}), {}, 0); }, "layer_norm", "bias");
  refuses([&] { layer_norm(x, make({7}), make({8}), 0); }, "layer_norm", "weight");
  refuses([&] { layer_norm_modulate(x, make({1, 8}), make({2, 8}), 0); }, "layer_norm_modulate",
          "shift");
  refuses([&] { layer_norm_modulate(x, make({2, 8}), make({2, 9}), 0); }, "layer_norm_modulate",
          "scale");
  refuses([&] { layer_norm_modulate(x, make({3, 8}), make({3, 8}), 0); }, "layer_norm_modulate",
          "shift");
  refuses([&] { layer_norm_modulate(x, make({2, 8}, DType::kBF16), make({2, 8}), 0); },
          "layer_norm_modulate", "scale");
  refuses([&] { rms_norm(x, make({8}, DType::kBF16), 0); }, "rms_norm", "weight");
  refuses([&] { group_norm(image, 4, make({6}), make({6}), 0, Activation::kNone); }, "group_norm",
          "groups");
  refuses([&] { group_norm(image, 3, make({6}), make({5}), 0, Activation::kNone); }, "group_norm",
          "bias");
}

TEST_F(OpsChecks, AttentionAndRope) {
  const Tensor q = make({1, 3, 2, 4});
  refuses([&] { attention({q, make({1, 5, 1, 4}), q}, {}); }, "attention", "k");
  refuses([&] { attention({q, q, make({1, 5, 2, 4})}, {}); }, "attention", "v");
  refuses([&] { attention({q, q, q}, {.bias = make({2, 3, 4})}); }, "attention", "bias");
  refuses([&] { attention({q, q, make({1, 3, 4, 2}).permute({0, 1, 3, 2})}, {}); }, "attention",
          "v");
  const Rope rope{make({3, 2}), make({3, 2})};
  const auto rotate = [&](const Tensor& qkv, const Tensor& norm, const Rope& table) {
    const std::vector<PackedQkv> streams = {{qkv, norm, norm}};
    norm_rope_heads(streams, table, 2, 0);
  };
  refuses([&] { rotate(make({1, 3, 25}), make({4}), rope); }, "norm_rope_heads", "width");
  refuses([&] { rotate(make({1, 3, 24}), make({3}), rope); }, "norm_rope_heads", "q_norm");
  refuses([&] { rotate(make({1, 3, 24}), make({12}), rope); }, "norm_rope_heads", "q_norm");
  refuses([&] { rotate(make({1, 4, 24}), make({4}), rope); }, "norm_rope_heads", "rope.cos");
  refuses([&] { rotate(make({1, 3, 24}), make({4}), {rope.cos, make({3, 2}, DType::kBF16)}); },
          "norm_rope_heads", "rope");
}

TEST_F(OpsChecks, Convolution) {
  const Conv2dWeights weights{"conv", Tensor::host({4, 3, 3, 3}, DType::kF32), {}, 1, {0, 0, 0, 0}};
  const auto conv = backend_->prepare_conv2d(weights, DType::kF32);
  refuses([&] { conv2d(make({1, 5, 5, 2}), *conv); }, "conv2d", "x");
  refuses([&] { conv2d(make({1, 2, 5, 3}), *conv); }, "conv2d", "image");
  refuses([&] { conv2d(make({1, 5, 5, 3}), *conv, make({1, 5, 5, 4})); }, "conv2d", "residual");
}

TEST_F(OpsChecks, VideoConvolution) {
  const Conv3dWeights weights{"conv", Tensor::host({4, 3, 3, 2, 2}, DType::kF32), {}};
  const auto conv = backend_->prepare_conv3d(weights, DType::kF32);
  refuses([&] { conv3d(make({3, 5, 5, 3}), *conv); }, "conv3d", "x");
  refuses([&] { conv3d(make({1, 3, 5, 5, 2}), *conv); }, "conv3d", "x");
  refuses([&] { conv3d(make({1, 2, 5, 5, 3}), *conv); }, "conv3d", "2 frames are fewer");
  refuses([&] { conv3d(make({1, 3, 5, 1, 3}), *conv); }, "conv3d", "image");
  refuses([&] { conv3d(make({1, 3, 5, 5, 3}), *conv, make({1, 1, 4, 4, 3})); }, "conv3d",
          "residual");
}

TEST_F(OpsChecks, ChannelNorm) {
  const auto norm = [&](const Tensor& x, const Tensor& weight, const Output& out) {
    channel_norm(x, weight, Activation::kSilu, out);
  };
  refuses([&] { norm(make({2, 3}, DType::kI32), make({3}), {}); }, "channel_norm", "x");
  refuses([&] { norm(make({2, 3}), make({2}), {}); }, "channel_norm", "weight");
  refuses([&] { norm(make({2, 3}), make({3}), {.tensor = make({3, 3})}); }, "channel_norm", "out");
  refuses([&] { norm(make({2, 3}), make({3}), {.e4m3_scale = 1.0F}); }, "channel_norm", "codes");
}

TEST_F(OpsChecks, Elementwise) {
  const Tensor x = make({2, 3});
  refuses([&] { add(x, make({2})); }, "add", "suffix");
  refuses([&] { add(make({3}), x); }, "add", "b");
  refuses([&] { add_scaled(x, make({3, 2}), 1); }, "add_scaled", "v");
  refuses([&] { gated_activation(x, Activation::kSilu); }, "gated_activation", "last dimension");
  refuses([&] { concat({x, make({2, 4})}, 0); }, "concat", "operand");
  refuses([&] { embedding(x, make({1, 2})); }, "embedding", "ids");
  refuses([&] { activate(make({2}, DType::kI32), Activation::kSilu); }, "activate", "x");
  refuses([&] { activate(Tensor::host({2}, DType::kF32), Activation::kSilu); }, "F32 [2]",
          "host memory");
}

}  // namespace
}  // namespace dither::ops
