// Attention of E4M3 codes by our own kernel, and the blocks of values that it reads.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cuda/cuda_ops.h"
#include "cuda/value_blocks.h"

namespace dither {
namespace {

using namespace cuda_test;  // NOLINT(google-build-using-namespace)

class CudaCodesAttention : public CudaOps {
 protected:
  void SetUp() override {
    CudaOps::SetUp();
    if (cuda_ != nullptr && !bf16()) GTEST_SKIP() << "codes are of bf16 activations";
  }
};

INSTANTIATE_TEST_SUITE_P(Dtype, CudaCodesAttention, ::testing::Values(DType::kBF16));

ops::AttentionOperands rotate(Inputs& in, std::int64_t batch,
                              const std::vector<std::int64_t>& tokens, std::int64_t heads,
                              ops::AttentionPrecision precision) {
  std::vector<ops::PackedQkv> streams;
  std::int64_t all = 0;
  for (const std::int64_t length : tokens) {
    streams.push_back(
        {in.tensor({batch, length, 3 * heads * 128}), in.tensor({128}), in.tensor({128})});
    all += length;
  }
  const ops::Rope rope{in.table({all, 64}), in.table({all, 64})};
  return ops::norm_rope_heads(streams, rope, heads, 1e-6F, precision);
}

TEST_P(CudaCodesAttention, BlocksAreOfTheValues) {
  struct Case {
    std::int64_t batch;
    std::vector<std::int64_t> tokens;
    std::int64_t heads;
  };
  for (const Case& c : {Case{1, {1024}, 1}, Case{2, {1025}, 3}, Case{1, {77, 1100}, 2}}) {
    SCOPED_TRACE(fmt::format("B {} L {} H {}", c.batch, c.tokens.back(), c.heads));
    Inputs in(*cuda_, GetParam());
    Inputs again(*cuda_, GetParam());
    const auto codes = rotate(in, c.batch, c.tokens, c.heads, ops::AttentionPrecision::kE4m3);
    const auto values =
        rotate(again, c.batch, c.tokens, c.heads, ops::AttentionPrecision::kActivations);
    HostValueBlocks(codes).expect(to_floats(values.v), values.v.dim(1));
  }
}

/// Attention of what the codes stand for, and what the kernel may differ by.
struct Expected {
  std::vector<float> values;
  std::vector<float> bounds;
};

/// A code of a probability is off by at most 2^-4 of it, half of its last bit, or by 2^-10 below
/// the normal numbers, of at most 448; sums keep 13 bits at every 32 keys.
Expected exact_attention(const ops::AttentionOperands& in, float scale) {
  const std::vector<float> q = to_floats(in.q);
  const std::vector<float> k = to_floats(in.k);
  const HostValueBlocks v(in);
  const std::int64_t heads = in.q.dim(2);
  const std::int64_t keys = in.k.dim(1);
  Expected expected;
  std::vector<double> p(static_cast<std::size_t>(keys));
  for (std::int64_t b = 0; b < in.q.dim(0); ++b) {
    for (std::int64_t i = 0; i < in.q.dim(1); ++i) {
      for (std::int64_t h = 0; h < heads; ++h) {
        double largest = -INFINITY;
        double weighted = -INFINITY;  // log2 of the largest probability times its block's scale
        for (std::int64_t j = 0; j < keys; ++j) {
          double dot = 0;
          for (std::int64_t c = 0; c < 128; ++c) {
            dot += static_cast<double>(
                       q[static_cast<std::size_t>(((b * in.q.dim(1) + i) * heads + h) * 128 + c)]) *
                   k[static_cast<std::size_t>(((b * keys + j) * heads + h) * 128 + c)];
          }
          p[static_cast<std::size_t>(j)] = dot * scale;
          largest = std::max(largest, dot * scale);
          weighted = std::max(weighted, dot * scale / std::log(2.0) + v.log2_scale(b, h, j));
        }
        double total = 0;
        for (double& score : p) {
          score = std::exp(score - largest);
          total += score;
        }
        // One unit of a code of a probability, in terms of p times its block's scale.
        const double unit = std::exp2(weighted - largest / std::log(2.0)) / 448;
        for (std::int64_t c = 0; c < 128; ++c) {
          double sum = 0;
          double magnitude = 0;
          double codes = 0;
          for (std::int64_t j = 0; j < keys; ++j) {
            const double value = v.value(b, h, j, c);
            sum += p[static_cast<std::size_t>(j)] * value;
            magnitude += p[static_cast<std::size_t>(j)] * std::abs(value);
            codes += std::abs(e4m3_to_float(v.code(b, h, j, c)));
          }
          const double rounding = 0x1p-4 * magnitude + 0x1p-10 * unit * codes;
          const double summing = static_cast<double>(keys) / 32 * 0x1p-13 * magnitude;
          expected.values.push_back(static_cast<float>(sum / total));
          expected.bounds.push_back(
              static_cast<float>((rounding + summing + 0x1p-8 * std::abs(sum)) / total + 1e-6));
        }
      }
    }
  }
  return expected;
}

void expect_within(const Tensor& y, const Expected& expected) {
  const std::vector<float> actual = to_floats(y);
  ASSERT_EQ(actual.size(), expected.values.size());
  double squares = 0;
  double errors = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_LE(std::abs(actual[i] - expected.values[i]), expected.bounds[i])
        << "element " << i << " of " << expected.values[i];
    squares += std::pow(expected.values[i], 2);
    errors += std::pow(actual[i] - expected.values[i], 2);
  }
  const double relative = std::sqrt(errors / squares);
  std::printf("relative error %.4f\n", relative);
  // Roundings of many probabilities are independent of each other.
  EXPECT_LE(relative, 0.04);
}

TEST_P(CudaCodesAttention, IsThatOfItsCodes) {
  struct Case {
    std::int64_t batch, tokens, heads, queries;
    float scale;
  };
  for (const Case& c : {Case{1, 1024, 1, 64, 0.0884F}, Case{2, 1025, 2, 131, 0.0884F},
                        Case{1, 1344, 3, 1, 0.5F}, Case{1, 1535, 2, 20, 0.01F},
                        // Tiles cut along their keys.
                        Case{1, 1730, 2, 131, 0.0884F}}) {
    SCOPED_TRACE(fmt::format("B {} L {} H {} Lq {}", c.batch, c.tokens, c.heads, c.queries));
    Inputs in(*cuda_, GetParam());
    ops::AttentionOperands heads =
        rotate(in, c.batch, {c.tokens}, c.heads, ops::AttentionPrecision::kE4m3);
    heads.q = heads.q.slice(1, c.tokens - c.queries, c.tokens);
    const Expected expected = exact_attention(heads, c.scale);
    const Tensor y = ops::attention(heads, {.scale = c.scale});
    expect_within(y, expected);
    // Codes are those of these values, and rows need not be where 8 of them can be written at once.
    for (const std::int64_t offset : {0, 3}) {
      const std::int64_t width = c.heads * 128;
      const Tensor all = Tensor::empty({c.batch, c.queries, width + 5}, DType::kF8E4M3, *cuda_);
      const Tensor codes = all.slice(-1, offset, offset + width);
      const std::int64_t first = c.queries / 3;
      ops::attention(heads, {.scale = c.scale,
                             .out = {.tensor = codes, .e4m3_scale = 0.01F},
                             .first_codes = ops::FirstCodes{.tokens = first, .e4m3_scale = 0.03F}});
      const std::vector<float> values = to_floats(y);
      const Tensor host = cuda_->download(ops::contiguous(codes));
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::int64_t token = static_cast<std::int64_t>(i) / width % c.queries;
        const float by = token < first ? 0.03F : 0.01F;
        ASSERT_EQ(host.data<std::uint8_t>()[i], to_e4m3_saturated(values[i] * (1 / by))) << i;
      }
    }
  }
}

// Keys that most queries look at have values of nearly nothing: the sums of exponentials are right
// all the same.
TEST_P(CudaCodesAttention, ValuesOfDifferentSizes) {
  constexpr std::int64_t kTokens = 1100;
  for (const float size : {0.0F, 1e-30F, 1e-3F, 1e4F}) {
    SCOPED_TRACE(fmt::format("first values of {}", size));
    Inputs in(*cuda_, GetParam());
    Tensor host = in.host({1, kTokens, 3 * 128});
    for (std::int64_t i = 0; i < 64 * 3 * 128; ++i) {
      float& value = host.data<float>()[i];
      value *= i % 384 >= 256 ? size : 1;
    }
    const ops::PackedQkv packed{cuda_->upload(host, DType::kBF16), in.tensor({128}),
                                in.tensor({128})};
    const ops::Rope rope{in.table({kTokens, 64}), in.table({kTokens, 64})};
    ops::AttentionOperands heads =
        ops::norm_rope_heads({&packed, 1}, rope, 1, 1e-6F, ops::AttentionPrecision::kE4m3);
    heads.q = heads.q.slice(1, 0, 40);
    expect_within(ops::attention(heads, {.scale = 1.0F}), exact_attention(heads, 1.0F));
  }
}

}  // namespace
}  // namespace dither
