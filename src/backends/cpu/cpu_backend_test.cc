#include "backends/cpu/cpu_backend.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <hwy/targets.h>

#include <cmath>
#include <functional>

#include "backends/cpu/strided.h"
#include "ops/ops.h"
#include "ops/test_inputs.h"

namespace dither::cpu {
namespace {

using Inputs = ops::TestInputs;
using ::testing::Values;

using Formula = std::function<Tensor(Inputs&)>;

struct Mode {
  const char* name;
  DType dtype;
  bool native_bf16;
  std::int64_t targets = 0;  ///< instruction sets that Highway may choose from; 0: the processor's
};

class FastOps : public ::testing::TestWithParam<Mode> {
 protected:
  FastOps() { choose_from(GetParam().targets); }
  ~FastOps() override { choose_from(0); }

  static void choose_from(std::int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }

  /// |fast - reference| <= absolute + relative |reference| everywhere. Both see the same operands,
  /// so bf16 results may differ by the rounding of nearly equal float32 values: one unit in the
  /// last place, 2^-7 of a value at most. float32 results differ by `absolute`, which the caller
  /// derives from the op, and a few roundings of the result, 2^-21.
  void compare(const Formula& formula, double absolute) {
    const auto run = [&](ops::Backend& backend) {
      Inputs inputs(backend, GetParam().dtype);
      return to_floats(formula(inputs));
    };
    const std::vector<float> expected = run(*reference_);
    const double relative = GetParam().dtype == DType::kBF16 ? 0x1p-7 : 0x1p-21;
    // Twice: the second run meets cached primitives and recycled memory.
    for (int round = 0; round < 2; ++round) {
      const std::vector<float> actual = run(*fast_);
      ASSERT_EQ(actual.size(), expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], absolute + relative * std::abs(expected[i]))
            << "element " << i << " in round " << round;
      }
    }
  }

  std::unique_ptr<ops::Backend> reference_ = make_cpu_reference_backend();
  std::unique_ptr<ops::Backend> fast_ =
      make_cpu_backend({.threads = 2, .allow_native_bf16 = GetParam().native_bf16});
};

// An instruction set that this processor lacks falls back to plain scalar code.
INSTANTIATE_TEST_SUITE_P(Modes, FastOps,
                         Values(Mode{"f32", DType::kF32, true}, Mode{"bf16", DType::kBF16, true},
                                Mode{"bf16_widened", DType::kBF16, false},
                                Mode{"f32_avx2", DType::kF32, true, HWY_AVX2},
                                Mode{"bf16_avx2", DType::kBF16, false, HWY_AVX2},
                                Mode{"f32_ssse3", DType::kF32, true, HWY_SSSE3},
                                Mode{"bf16_ssse3", DType::kBF16, false, HWY_SSSE3},
                                Mode{"f32_scalar", DType::kF32, true, HWY_SCALAR},
                                Mode{"bf16_scalar", DType::kBF16, false, HWY_SCALAR}),
                         [](const auto& mode) { return mode.param.name; });

/// Rounding error of a float32 sum of `terms` products of operands in [-1, 1): each partial sum is
/// a random walk (variance k / 9) rounded to 2^-24 of itself, which adds up to a standard deviation
/// of terms * 2^-24 / 7. Seven of those.
double sum_error(std::int64_t terms) { return static_cast<double>(terms) * 0x1p-24 + 0x1p-22; }

struct LinearCase {
  std::int64_t batch, rows, n, k;
};

TEST_P(FastOps, Linear) {
  for (const auto& [batch, rows, n, k] :
       {LinearCase{1, 1, 3, 1}, LinearCase{1, 1, 64, 127}, LinearCase{2, 5, 3, 33},
        LinearCase{2, 17, 127, 64}, LinearCase{1, 128, 256, 1280}, LinearCase{2, 1, 96, 16}}) {
    SCOPED_TRACE(fmt::format("B {} L {} N {} K {}", batch, rows, n, k));
    for (const auto activation : {ops::Activation::kNone, ops::Activation::kSilu,
                                  ops::Activation::kGeluTanh, ops::Activation::kQuickGelu}) {
      compare(
          [&](Inputs& in) {
            const std::vector<ops::LinearShard> shards = {{"w", in.host({n, k}), in.host({n})}};
            const auto layer = in.backend().prepare_linear(shards, in.dtype());
            return ops::linear(in.strided({batch, rows, k}), *layer,
                               {activation, in.strided({batch, n}), in.strided({batch, rows, n})});
          },
          2 * sum_error(k));
      compare(
          [&](Inputs& in) {
            const std::vector<ops::LinearShard> shards = {{"w", in.host({n, k}), {}}};
            const auto layer = in.backend().prepare_linear(shards, in.dtype());
            const Tensor x = in.tensor({batch, rows, k});
            return ops::linear(x, *layer, {activation, in.table({batch, n})});
          },
          2 * sum_error(k));
    }
  }
}

TEST_P(FastOps, LinearStacksShardsOfWhichSomeHaveABias) {
  compare(
      [](Inputs& in) {
        const std::vector<ops::LinearShard> shards = {{"q", in.host({48, 40}), in.host({48})},
                                                      {"k", in.host({16, 40}), {}}};
        const auto layer = in.backend().prepare_linear(shards, in.dtype());
        return ops::linear(in.tensor({2, 7, 40}), *layer);
      },
      sum_error(40));
}

TEST_P(FastOps, LinearWithoutBias) {
  compare(
      [](Inputs& in) {
        const std::vector<ops::LinearShard> shards = {{"w", in.host({65, 40}), {}}};
        const auto layer = in.backend().prepare_linear(shards, in.dtype());
        return ops::linear(in.tensor({7, 40}), *layer);
      },
      sum_error(40));
}

// A norm divides by a root mean square of 1/sqrt(3): error of the statistics times the value, of
// which the largest is about 2.
TEST_P(FastOps, Norms) {
  for (const std::int64_t width : {1, 2, 15, 16, 127, 256, 3072}) {
    SCOPED_TRACE(fmt::format("D {}", width));
    const Shape shape = {2, 3, width};
    const float eps = 1e-5F;
    compare([&](Inputs& in) { return ops::layer_norm(in.strided(shape), {}, {}, eps); }, 0x1p-20);
    compare(
        [&](Inputs& in) {
          const Tensor x = in.strided(shape);
          return ops::layer_norm(x, in.tensor({width}), in.tensor({width}), eps);
        },
        0x1p-20);
    compare(
        [&](Inputs& in) {
          const Tensor x = in.strided(shape);
          return ops::layer_norm_modulate(x, in.strided({2, width}), in.strided({2, width}), eps);
        },
        0x1p-19);
    for (const std::int64_t samples : {1, 2}) {  // float32, of all samples or of each
      compare(
          [&](Inputs& in) {
            const Tensor x = in.strided(shape);
            const Tensor both = in.table({samples, 2 * width});
            return ops::layer_norm_modulate(x, both.slice(-1, 0, width),
                                            both.slice(-1, width, 2 * width), eps);
          },
          0x1p-19);
    }
    compare([&](Inputs& in) { return ops::rms_norm(in.strided(shape), in.tensor({width}), eps); },
            0x1p-20);
  }
}

TEST_P(FastOps, LayerNormSurvivesALargeMean) {
  // Mean 300, deviation 1/2: squares of float32 values would leave nothing of the variance. What
  // remains is the error of the mean itself, 300 * 2^-22, over the deviation.
  compare(
      [](Inputs& in) {
        return ops::layer_norm(ops::affine(in.table({4, 512}), 1, 300), {}, {}, 1e-6F);
      },
      300 * 0x1p-21);
}

TEST_P(FastOps, GroupNorm) {
  struct Case {
    std::int64_t batch, h, w, channels;
    int groups;
  };
  for (const auto& [batch, h, w, channels, groups] :
       {Case{1, 1, 1, 4, 2}, Case{2, 5, 7, 32, 16}, Case{1, 3, 3, 30, 5}, Case{1, 64, 64, 96, 16},
        Case{2, 9, 5, 33, 1}}) {
    SCOPED_TRACE(fmt::format("C {} groups {}", channels, groups));
    for (const auto activation : {ops::Activation::kNone, ops::Activation::kSilu}) {
      compare(
          [&](Inputs& in) {
            const Tensor x = in.tensor({batch, h, w, channels});
            return ops::group_norm(x, groups, in.tensor({channels}), in.tensor({channels}), 1e-6F,
                                   activation);
          },
          0x1p-19);
    }
  }
}

TEST_P(FastOps, ChannelNorm) {
  for (const std::int64_t width : {1, 2, 15, 96, 385, 1024}) {
    SCOPED_TRACE(fmt::format("C {}", width));
    for (const auto activation : {ops::Activation::kNone, ops::Activation::kSilu}) {
      compare(
          [&](Inputs& in) {
            const Tensor x = in.strided({1, 2, 3, 2, width});
            return ops::channel_norm(x, in.tensor({width}), activation);
          },
          0x1p-20);
    }
  }
}

TEST_P(FastOps, NormRopeHeads) {
  for (const std::int64_t d : {2, 6, 64, 70, 128}) {
    for (const std::int64_t norm : {d, 3 * d}) {
      for (const bool q : {true, false}) {
        SCOPED_TRACE(fmt::format("D {} norm {} q {}", d, norm, q));
        compare(
            [&](Inputs& in) {
              const std::vector<ops::PackedQkv> streams = {
                  {in.strided({2, 3, 3 * 3 * d}), in.tensor({norm}), in.tensor({norm})},
                  {in.strided({2, 5, 3 * 3 * d}), in.tensor({norm}), in.tensor({norm})}};
              const ops::Rope rope{in.table({8, d / 2}), in.table({8, d / 2})};
              const auto out = ops::norm_rope_heads(streams, rope, 3, 1e-6F);
              return ops::concat({q ? out.q : out.k, out.v}, 1);
            },
            0x1p-20);
      }
    }
  }
}

struct AttentionCase {
  std::int64_t batch, queries, keys, heads, d;
  bool causal, bias;
};

// Scores are sums of D products; their absolute error is a relative error of the weights. Weights
// sum to 1, values are below 1.
TEST_P(FastOps, Attention) {
  for (const auto& [batch, queries, keys, heads, d, causal, bias] :
       {AttentionCase{1, 1, 1, 1, 1, false, false}, AttentionCase{2, 7, 5, 3, 8, false, true},
        AttentionCase{1, 77, 77, 2, 64, true, false},
        AttentionCase{1, 128, 128, 4, 64, false, false},
        AttentionCase{2, 33, 300, 1, 70, false, true}, AttentionCase{1, 50, 50, 1, 96, true, true},
        AttentionCase{1, 25, 600, 3, 128, false, false}}) {
    SCOPED_TRACE(fmt::format("Lq {} Lk {} H {} D {}", queries, keys, heads, d));
    compare(
        [&](Inputs& in) {
          const Shape query = {batch, queries, heads, d};
          const Shape key = {batch, keys, heads, d};
          const ops::AttentionOperands operands{in.strided(query), in.strided(key),
                                                in.strided(key)};
          return ops::attention(operands, {1 / std::sqrt(static_cast<float>(d)), causal,
                                           bias ? in.table({heads, queries, keys}) : Tensor{}});
        },
        2 * sum_error(d) + 0x1p-21);
  }
}

struct ConvCase {
  std::int64_t batch, h, w, c_in, c_out, kernel;
  int stride;
  std::array<int, 4> padding;
  bool bias, residual;
};

TEST_P(FastOps, Conv2d) {
  for (const auto& c : {ConvCase{1, 5, 7, 3, 5, 3, 1, {1, 1, 1, 1}, true, true},
                        ConvCase{2, 16, 16, 16, 96, 3, 1, {1, 1, 1, 1}, true, false},
                        ConvCase{1, 8, 8, 64, 48, 1, 1, {0, 0, 0, 0}, true, true},
                        ConvCase{1, 9, 9, 32, 32, 3, 2, {0, 0, 1, 1}, true, false},
                        ConvCase{1, 70, 66, 32, 3, 3, 1, {1, 1, 1, 1}, true, false},
                        ConvCase{1, 12, 12, 17, 33, 3, 1, {1, 1, 1, 1}, false, true}}) {
    SCOPED_TRACE(fmt::format("{} x {}, {} -> {}", c.h, c.w, c.c_in, c.c_out));
    compare(
        [&](Inputs& in) {
          ops::Conv2dWeights weights{"conv", in.host({c.c_out, c.c_in, c.kernel, c.kernel}),
                                     c.bias ? in.host({c.c_out}) : Tensor{}, c.stride, c.padding};
          const auto conv = in.backend().prepare_conv2d(weights, in.dtype());
          const Tensor x = in.tensor({c.batch, c.h, c.w, c.c_in});
          const Shape shape = {c.batch, conv->out_h(c.h), conv->out_w(c.w), c.c_out};
          return ops::conv2d(x, *conv, c.residual ? in.tensor(shape) : Tensor{});
        },
        sum_error(c.c_in * c.kernel * c.kernel));
  }
}

TEST_P(FastOps, Conv2dUpsamplesWhereTheWeightsSaySo) {
  const DType dtype = GetParam().dtype;
  Inputs in(*fast_, dtype);
  ops::Conv2dWeights weights{"conv", in.host({5, 3, 3, 3}), in.host({5}), 1, {1, 1, 1, 1}};
  const auto plain = fast_->prepare_conv2d(weights, dtype);
  weights.upsamples = true;
  const auto upsampling = fast_->prepare_conv2d(weights, dtype);
  const Tensor x = in.tensor({2, 4, 7, 3});
  const Tensor residual = in.tensor({2, 8, 14, 5});
  EXPECT_EQ(upsampling->out_h(4), 8);
  EXPECT_EQ(upsampling->out_w(7), 14);
  EXPECT_EQ(to_floats(ops::conv2d(x, *upsampling, residual)),
            to_floats(ops::conv2d(ops::upsample_nearest2x(x), *plain, residual)));
}

struct Conv3dCase {
  std::int64_t batch, frames, h, w, c_in, c_out;
  std::array<std::int64_t, 3> kernel;
  int stride_t;
  std::array<int, 4> padding;
  bool bias, residual;
};

TEST_P(FastOps, Conv3d) {
  for (const auto& c : {Conv3dCase{1, 3, 5, 7, 3, 5, {3, 3, 3}, 1, {1, 1, 1, 1}, true, true},
                        Conv3dCase{2, 4, 6, 6, 16, 24, {3, 3, 3}, 1, {1, 1, 1, 1}, true, false},
                        Conv3dCase{1, 5, 4, 9, 24, 12, {3, 1, 1}, 1, {0, 0, 0, 0}, true, false},
                        Conv3dCase{2, 6, 3, 3, 17, 33, {3, 1, 1}, 2, {0, 0, 0, 0}, false, true},
                        Conv3dCase{1, 2, 8, 5, 32, 48, {1, 1, 1}, 1, {0, 0, 0, 0}, true, true},
                        Conv3dCase{1, 4, 9, 4, 8, 3, {2, 3, 2}, 2, {0, 1, 1, 0}, true, true}}) {
    SCOPED_TRACE(fmt::format("{} frames {} x {}, {} -> {}", c.frames, c.h, c.w, c.c_in, c.c_out));
    const auto& [kt, kh, kw] = c.kernel;
    compare(
        [&](Inputs& in) {
          ops::Conv3dWeights weights{"conv", in.host({c.c_out, c.c_in, kt, kh, kw}),
                                     c.bias ? in.host({c.c_out}) : Tensor{}, c.stride_t, c.padding};
          const auto conv = in.backend().prepare_conv3d(weights, in.dtype());
          const Tensor x = in.tensor({c.batch, c.frames, c.h, c.w, c.c_in});
          const Shape shape = {c.batch, conv->out_frames(c.frames), conv->out_h(c.h),
                               conv->out_w(c.w), c.c_out};
          return ops::conv3d(x, *conv, c.residual ? in.tensor(shape) : Tensor{});
        },
        sum_error(c.c_in * kt * kh * kw));
  }
}

TEST_P(FastOps, ElementwiseAndShuffles) {
  for (const std::int64_t width : {2, 16, 126, 40000}) {
    SCOPED_TRACE(fmt::format("width {}", width));
    const Shape shape = {2, 3, width};
    for (const auto activation : {ops::Activation::kSilu, ops::Activation::kGeluTanh,
                                  ops::Activation::kQuickGelu, ops::Activation::kNone}) {
      compare([&](Inputs& in) { return ops::activate(in.strided(shape), activation); }, 0x1p-23);
      compare([&](Inputs& in) { return ops::gated_activation(in.strided(shape), activation); },
              0x1p-23);
    }
    compare([&](Inputs& in) { return ops::add(in.strided(shape), in.tensor({3, width})); }, 0);
    compare(
        [&](Inputs& in) {
          const Tensor x = in.tensor(shape);
          return ops::add_scaled(x, in.tensor(shape), -0.3F);
        },
        0x1p-24);
    compare([&](Inputs& in) { return ops::affine(in.strided(shape), 1.7F, -0.4F); }, 0x1p-24);
    compare([&](Inputs& in) { return ops::contiguous(in.tensor(shape).permute({2, 0, 1})); }, 0);
    compare(
        [&](Inputs& in) {
          return ops::cast(in.strided(shape),
                           in.dtype() == DType::kF32 ? DType::kBF16 : DType::kF32);
        },
        0);
  }
  compare([](Inputs& in) { return ops::upsample_nearest2x(in.tensor({2, 5, 3, 7})); }, 0);
}

TEST_P(FastOps, ActivationsFarOut) {
  // exp must neither overflow nor lose the tails: x -> x on the right, 0 on the left.
  for (const auto activation :
       {ops::Activation::kSilu, ops::Activation::kGeluTanh, ops::Activation::kQuickGelu}) {
    for (const float factor : {10.0F, 1e3F, 1e6F}) {
      // exp's argument a carries an error of |a| 2^-24, and a reaches 17 where the value still
      // counts: 2^-19 of the value.
      compare(
          [&](Inputs& in) {
            return ops::activate(ops::affine(in.tensor({1000}), factor, 0), activation);
          },
          0x1p-18);
    }
  }
}

TEST_P(FastOps, Embedding) {
  compare(
      [](Inputs& in) {
        Tensor ids = Tensor::host({2, 3}, DType::kI32);
        for (int i = 0; i < 6; ++i) ids.data<std::int32_t>()[i] = (i * 7) % 11;
        return ops::embedding(in.tensor({11, 13}), in.backend().upload(ids, DType::kI32));
      },
      0);
}

TEST_P(FastOps, SteadyLoopTakesNoNewMemory) {
  Inputs in(*fast_, GetParam().dtype);
  const std::vector<ops::LinearShard> shards = {{"w", in.host({256, 256}), in.host({256})}};
  const auto layer = fast_->prepare_linear(shards, in.dtype());
  Tensor x = in.tensor({1, 128, 256});
  const auto step = [&] { x = ops::layer_norm(ops::linear(x, *layer), {}, {}, 1e-6F); };
  for (int i = 0; i < 3; ++i) step();
  const auto before = fast_->memory();
  for (int i = 0; i < 10; ++i) step();
  EXPECT_EQ(fast_->memory().reserved_bytes, before.reserved_bytes);
  EXPECT_EQ(fast_->memory().peak_bytes, before.peak_bytes);
  EXPECT_GE(layer->resident_bytes(), 256U * 256U * 2U);
}

}  // namespace
}  // namespace dither::cpu
