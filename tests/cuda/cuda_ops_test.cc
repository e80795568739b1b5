// Every op of the CUDA backend but the linear layers against the reference backend, on odd shapes
// as well as on those that take a kernel's fast path.
#include "cuda/cuda_ops.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "backends/cuda/kernels/norm_rope.h"
#include "base/test_util.h"

namespace dither {
namespace {

using namespace cuda_test;  // NOLINT(google-build-using-namespace)

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaOps, ::testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& dtype) { return std::string(dtype_name(dtype.param)); });

TEST_P(CudaOps, Norms) {
  for (const std::int64_t width : {1, 2, 15, 16, 127, 256, 768, 3072, 4096, 9000}) {
    SCOPED_TRACE(fmt::format("D {}", width));
    const Shape shape = {2, 3, width};
    const float eps = 1e-5F;
    compare([&](Inputs& in) { return ops::layer_norm(in.strided(shape), {}, {}, eps); }, 0x1p-19);
    compare(
        [&](Inputs& in) {
          const Tensor x = in.tensor(shape);
          return ops::layer_norm(x, in.tensor({width}), in.tensor({width}), eps);
        },
        0x1p-19);
    for (const bool aligned : {true, false}) {
      compare(
          [&](Inputs& in) {
            const auto operand = [&](const Shape& s) {
              return aligned ? in.tensor(s) : in.strided(s);
            };
            const Tensor x = operand(shape);
            return ops::layer_norm_modulate(x, operand({2, width}), operand({2, width}), eps);
          },
          0x1p-18);
    }
    for (const std::int64_t samples : {1, 2}) {  // float32, of all samples or of each
      compare(
          [&](Inputs& in) {
            const Tensor x = in.tensor(shape);
            const Tensor both = in.table({samples, 2 * width});
            return ops::layer_norm_modulate(x, both.slice(-1, 0, width),
                                            both.slice(-1, width, 2 * width), eps);
          },
          0x1p-18);
    }
    compare([&](Inputs& in) { return ops::rms_norm(in.tensor(shape), in.tensor({width}), eps); },
            0x1p-19);
  }
}

// What the next FP8 layer would have made of the result: the same codes, but for values whose
// float32 results fall to two sides of a rounding boundary.
TEST_P(CudaOps, ModulatedCodesAreThoseOfTheResult) {
  for (const std::int64_t width : {24, 256, 3072}) {
    Inputs in(*cuda_, GetParam());
    const Tensor x = in.tensor({1, 37, width});
    const Tensor shift = in.tensor({1, width});
    const Tensor scale = in.tensor({1, width});
    const float e4m3_scale = 0.01F;
    const Tensor codes = cuda_->download(
        ops::layer_norm_modulate(x, shift, scale, 1e-6F, {.e4m3_scale = e4m3_scale}));
    const std::vector<float> values = to_floats(ops::layer_norm_modulate(x, shift, scale, 1e-6F));
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(codes.data<std::uint8_t>()[i], to_e4m3_saturated(values[i] * (1 / e4m3_scale)))
          << i;
    }
  }
}

// What the next FP8 layer would have made of the result, written into a part of a tensor.
TEST_P(CudaOps, GatedCodesAreThoseOfTheResult) {
  for (const std::int64_t width : {5, 24, 256}) {
    Inputs in(*cuda_, GetParam());
    const Tensor x = in.strided({2, 37, 2 * width});
    const ops::Output out{
        .tensor =
            Tensor::empty({2, 37, 3 * width}, DType::kF8E4M3, *cuda_).slice(-1, width, 2 * width),
        .e4m3_scale = 0.01F};
    const Tensor codes =
        cuda_->download(ops::contiguous(ops::gated_activation(x, ops::Activation::kSilu, out)));
    const std::vector<float> values = to_floats(ops::gated_activation(x, ops::Activation::kSilu));
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(codes.data<std::uint8_t>()[i], to_e4m3_saturated(values[i] * (1 / 0.01F))) << i;
    }
  }
}

TEST_P(CudaOps, GroupNorm) {
  struct Case {
    std::int64_t batch, h, w, channels;
    int groups;
  };
  for (const auto& [batch, h, w, channels, groups] :
       {Case{1, 1, 1, 4, 2}, Case{2, 5, 7, 32, 16}, Case{1, 3, 3, 30, 5}, Case{1, 64, 64, 96, 16},
        Case{2, 9, 5, 33, 1}, Case{1, 33, 47, 512, 32}, Case{1, 131, 129, 128, 32},
        Case{1, 6, 7, 2048, 32}}) {
    SCOPED_TRACE(fmt::format("C {} groups {}", channels, groups));
    for (const auto activation : {ops::Activation::kNone, ops::Activation::kSilu}) {
      compare(
          [&](Inputs& in) {
            const Tensor x = in.tensor({batch, h, w, channels});
            return ops::group_norm(x, groups, in.tensor({channels}), in.tensor({channels}), 1e-6F,
                                   activation);
          },
          0x1p-18);
    }
  }
}

// e^-x overflows and vanishes; a weight of 60 makes float32's error of the norm as much larger.
TEST_P(CudaOps, GroupNormWithSiluFarFromZero) {
  compare(
      [](Inputs& in) {
        const Tensor weight = ops::affine(in.tensor({64}), 60, 0);
        return ops::group_norm(in.tensor({1, 20, 20, 64}), 4, weight, in.tensor({64}), 1e-6F,
                               ops::Activation::kSilu);
      },
      60 * 0x1p-18);
}

TEST_P(CudaOps, NormRopeHeads) {
  for (const std::int64_t d : {2, 6, 16, 64, 70, 128}) {
    for (const bool q : {true, false}) {
      for (const bool joint : {true, false}) {
        SCOPED_TRACE(fmt::format("D {} q {} joint {}", d, q, joint));
        compare(
            [&](Inputs& in) {
              const std::int64_t width = 3 * 3 * d;
              const Tensor all = in.tensor({1, 8, width});  // rotated in place
              const auto stream = [&](std::int64_t begin, std::int64_t end) {
                return joint ? all.slice(1, begin, end) : in.strided({2, end - begin, width});
              };
              const std::vector<ops::PackedQkv> streams = {
                  {stream(0, 3), in.tensor({d}), in.tensor({d})},
                  {stream(3, 8), in.tensor({d}), in.tensor({d})}};
              const ops::Rope rope{in.table({8, d / 2}), in.table({8, d / 2})};
              const auto out = ops::norm_rope_heads(streams, rope, 3, 1e-6F);
              return ops::concat({q ? out.q : out.k, out.v}, 1);
            },
            0x1p-19);
      }
    }
  }
}

// All heads together: one vector a thread and several, more than registers hold, odd ones.
TEST_P(CudaOps, NormRopeAcrossHeads) {
  struct Case {
    std::int64_t heads, d;
  };
  for (const auto& [heads, d] :
       {Case{1, 2}, Case{3, 6}, Case{5, 70}, Case{3, 24}, Case{2, 128}, Case{12, 128},
        Case{24, 128}, Case{40, 128}, Case{64, 128}, Case{80, 128}}) {
    for (const bool q : {true, false}) {
      for (const bool joint : {true, false}) {
        SCOPED_TRACE(fmt::format("H {} D {} q {} joint {}", heads, d, q, joint));
        compare(
            [&](Inputs& in) {
              const std::int64_t width = heads * d;
              const Tensor all = in.tensor({1, 5, 3 * width});  // rotated in place
              const auto stream = [&](std::int64_t begin, std::int64_t end) {
                return joint ? all.slice(1, begin, end) : in.strided({2, end - begin, 3 * width});
              };
              const std::vector<ops::PackedQkv> streams = {
                  {stream(0, 2), in.tensor({width}), in.tensor({width})},
                  {stream(2, 5), in.tensor({width}), in.tensor({width})}};
              const ops::Rope rope{in.table({5, d / 2}), in.table({5, d / 2})};
              const auto out = ops::norm_rope_heads(streams, rope, heads, 1e-6F);
              return ops::concat({q ? out.q : out.k, out.v}, 1);
            },
            0x1p-19);
      }
    }
  }
}

// Codes are those of the results, but for v, which has a scale.
TEST_P(CudaOps, NormRopeAcrossHeadsAsCodes) {
  if (!bf16()) GTEST_SKIP() << "for bf16";
  for (const std::int64_t heads : {2, 40}) {
    const auto rotated = [&](ops::AttentionPrecision precision) {
      Inputs in(*cuda_, GetParam());
      const std::int64_t width = heads * 128;
      const ops::PackedQkv packed{in.tensor({1, 7, 3 * width}), in.tensor({width}),
                                  in.tensor({width})};
      const ops::Rope rope{in.table({7, 64}), in.table({7, 64})};
      return ops::norm_rope_heads({&packed, 1}, rope, heads, 1e-6F, precision);
    };
    const auto codes = rotated(ops::AttentionPrecision::kE4m3);
    const auto values = rotated(ops::AttentionPrecision::kActivations);
    const auto expect_codes = [&](const Tensor& actual, const Tensor& expected, float reciprocal) {
      const Tensor host = cuda_->download(ops::contiguous(actual));
      const std::vector<float> floats = to_floats(expected);
      for (std::size_t i = 0; i < floats.size(); ++i) {
        ASSERT_EQ(host.data<std::uint8_t>()[i], to_e4m3_saturated(floats[i] * reciprocal)) << i;
      }
    };
    expect_codes(codes.q, values.q, 1);
    expect_codes(codes.k, values.k, 1);
    expect_codes(codes.v, values.v, to_floats(codes.v_scale)[cuda::kReciprocalElement]);
  }
}

struct AttentionCase {
  std::int64_t batch, queries, keys, heads, d;
  bool causal, bias;
};

// bf16 probabilities are rounded before they meet the values.
TEST_P(CudaOps, Attention) {
  for (const auto& [batch, queries, keys, heads, d, causal, bias] :
       {AttentionCase{1, 1, 1, 1, 1, false, false}, AttentionCase{2, 7, 5, 3, 8, false, true},
        AttentionCase{1, 77, 77, 2, 64, true, false},
        AttentionCase{1, 128, 128, 4, 64, false, true},
        AttentionCase{2, 33, 300, 1, 70, false, true}, AttentionCase{1, 50, 50, 1, 96, true, true},
        AttentionCase{1, 25, 600, 3, 128, false, false},
        // So many keys are our own kernel's: part of a tile, whole tiles, several tiles of queries.
        AttentionCase{1, 1, 1025, 1, 128, false, false},
        AttentionCase{2, 131, 1056, 3, 128, false, false},
        AttentionCase{1, 300, 1500, 2, 128, false, false},
        // Tiles cut along their keys: in many pieces; some of them, behind whole ones.
        AttentionCase{1, 200, 4608, 3, 128, false, false},
        AttentionCase{2, 700, 1500, 12, 128, false, false},
        AttentionCase{1, 40, 40, 1, 512, false, false},
        // Scores that a block keeps in registers, and more than that.
        AttentionCase{1, 9, 2056, 2, 264, false, false},
        AttentionCase{1, 5, 4100, 1, 512, false, false},
        AttentionCase{1, 6, 16384, 1, 512, false, false},
        AttentionCase{1, 3, 16392, 1, 264, false, false}}) {
    for (const bool aligned : {true, false}) {
      SCOPED_TRACE(fmt::format("Lq {} Lk {} H {} D {} {}", queries, keys, heads, d, aligned));
      compare(
          [&](Inputs& in) {
            const auto operand = [&](std::int64_t length) {
              const Shape shape = {batch, length, heads, d};
              return aligned ? in.tensor(shape) : in.strided(shape);
            };
            const ops::AttentionOperands operands{operand(queries), operand(keys), operand(keys)};
            return ops::attention(operands, {1 / std::sqrt(static_cast<float>(d)), causal,
                                             bias ? in.table({heads, queries, keys}) : Tensor{}});
          },
          2 * sum_error(d) + 0x1p-20, 1);
    }
  }
}

// Whichever block comes last adds up the pieces of a tile.
TEST_P(CudaOps, AttentionInPiecesIsTheSameEveryTime) {
  if (!bf16()) GTEST_SKIP() << "for bf16";
  Inputs in(*cuda_, GetParam());
  const auto qkv = [&](std::int64_t queries, std::int64_t keys) {
    return ops::AttentionOperands{in.tensor({1, queries, 3, 128}), in.tensor({1, keys, 3, 128}),
                                  in.tensor({1, keys, 3, 128})};
  };
  const ops::AttentionOperands operands = qkv(1500, 4608);
  const ops::AttentionOperands others = qkv(300, 2000);
  const std::vector<float> first = to_floats(ops::attention(operands, {.scale = 0.1F}));
  for (int i = 0; i < 20; ++i) {
    ops::attention(others, {.scale = 0.1F});
    ASSERT_EQ(to_floats(ops::attention(operands, {.scale = 0.1F})), first) << "time " << i;
  }
}

// The codes of an attention of activations are those of its bf16 result, whichever kernel it is.
TEST_P(CudaOps, AttentionCodesAreThoseOfItsValues) {
  if (!bf16()) GTEST_SKIP() << "for bf16";
  for (const std::int64_t keys : {200, 1100, 1500}) {
    Inputs in(*cuda_, GetParam());
    const ops::AttentionOperands operands{in.tensor({2, 140, 3, 128}), in.tensor({2, keys, 3, 128}),
                                          in.tensor({2, keys, 3, 128})};
    const std::vector<float> values = to_floats(ops::attention(operands, {.scale = 0.5F}));
    // Those of the first tokens of every sample by a scale of their own.
    for (const std::int64_t first : {0, 37}) {
      const Tensor wide = Tensor::empty({2, 140, 512}, DType::kF8E4M3, *cuda_);
      const Tensor codes = wide.slice(-1, 0, 3 * 128);
      ops::AttentionOptions options{.scale = 0.5F, .out = {.tensor = codes, .e4m3_scale = 0.01F}};
      if (first > 0) options.first_codes = {.tokens = first, .e4m3_scale = 0.03F};
      ops::attention(operands, options);
      const Tensor host = cuda_->download(codes);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto token = static_cast<std::int64_t>(i / 384 % 140);
        const float scale = token < first ? 0.03F : 0.01F;
        ASSERT_EQ(host.data<std::uint8_t>()[i], to_e4m3_saturated(values[i] * (1 / scale)))
            << "element " << i << " of " << keys << " keys, " << first << " first tokens";
      }
    }
  }
}

// Codes keep 3 bits of a mantissa: q, k, v and the probabilities are each within 2^-4 of
// themselves, and so is the result; errors of single values average out, to 3-4 % of the norm on
// normal data.
TEST_P(CudaOps, Fp8AttentionStaysClose) {
  if (!bf16()) GTEST_SKIP() << "for bf16";
  for (const bool codes_out : {false, true}) {
    for (const std::int64_t d : {64, 128}) {
      Inputs in(*cuda_, GetParam());
      const Tensor stream = in.tensor({1, 200, 3 * 4 * d});
      const Tensor copy = Tensor::empty(stream.shape(), stream.dtype(), *cuda_);
      cuda_->copy(stream, copy);  // one of them is rotated in place
      const Tensor norm = in.tensor({d});
      const ops::Rope rope{in.table({200, d / 2}), in.table({200, d / 2})};
      const auto attend = [&](const Tensor& qkv, ops::AttentionPrecision precision,
                              const ops::Output& out) {
        const ops::PackedQkv packed{qkv, norm, norm};
        const auto operands = ops::norm_rope_heads({&packed, 1}, rope, 4, 1e-6F, precision);
        return ops::attention(operands,
                              {.scale = 1 / std::sqrt(static_cast<float>(d)), .out = out});
      };
      const float scale = 1.0F / 448;
      ops::Output out;
      if (codes_out) out.e4m3_scale = scale;
      std::vector<float> actual = to_floats(attend(copy, ops::AttentionPrecision::kE4m3, out));
      const std::vector<float> expected =
          to_floats(attend(stream, ops::AttentionPrecision::kActivations, {}));
      double difference = 0;
      double norm2 = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        if (codes_out) actual[i] *= scale;
        difference += std::pow(double{actual[i]} - double{expected[i]}, 2);
        norm2 += std::pow(double{expected[i]}, 2);
      }
      EXPECT_LE(std::sqrt(difference / norm2), 0.06) << "D " << d << " codes " << codes_out;
    }
  }
}

struct ConvCase {
  std::int64_t batch, h, w, c_in, c_out, kernel;
  int stride;
  std::array<int, 4> padding;
  bool bias, residual;
};

TEST_P(CudaOps, Conv2d) {
  for (const auto& c : {ConvCase{1, 5, 7, 3, 5, 3, 1, {1, 1, 1, 1}, true, true},
                        ConvCase{2, 16, 16, 16, 96, 3, 1, {1, 1, 1, 1}, true, false},
                        ConvCase{1, 8, 8, 64, 48, 1, 1, {0, 0, 0, 0}, true, true},
                        ConvCase{1, 9, 9, 32, 32, 3, 2, {0, 0, 1, 1}, true, false},
                        ConvCase{1, 70, 66, 32, 3, 3, 1, {1, 1, 1, 1}, true, false},
                        ConvCase{2, 13, 37, 128, 3, 3, 1, {1, 1, 1, 1}, true, false},
                        ConvCase{1, 8, 32, 64, 8, 3, 1, {1, 1, 1, 1}, true, false},
                        ConvCase{1, 17, 70, 256, 1, 3, 1, {0, 0, 2, 1}, false, false},
                        ConvCase{1, 5, 40, 64, 4, 3, 1, {2, 0, 0, 3}, true, true},
                        ConvCase{1, 1, 1, 64, 3, 3, 1, {1, 1, 1, 1}, true, false},
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
        2 * sum_error(c.c_in * c.kernel * c.kernel), sum_bound(c.c_in * c.kernel * c.kernel));
  }
}

// Four phases of the small image, of weights that were summed and rounded again: in bf16 an error
// of each product as large as a rounding of the result, which `intermediate` covers.
TEST_P(CudaOps, Conv2dOfAnUpsampledImage) {
  for (const auto& c : {ConvCase{1, 5, 7, 3, 5, 3, 1, {1, 1, 1, 1}, true, true},
                        ConvCase{1, 1, 1, 8, 8, 3, 1, {1, 1, 1, 1}, true, false},
                        ConvCase{2, 16, 12, 64, 32, 3, 1, {1, 1, 1, 1}, true, false},
                        ConvCase{3, 9, 10, 192, 96, 3, 1, {1, 1, 1, 1}, true, true},
                        ConvCase{1, 6, 5, 17, 33, 3, 1, {1, 1, 1, 1}, false, false},
                        ConvCase{1, 6, 5, 16, 24, 3, 2, {0, 0, 1, 1}, true, false},
                        ConvCase{1, 4, 4, 16, 24, 1, 1, {0, 0, 0, 0}, true, true}}) {
    SCOPED_TRACE(fmt::format("{} x {}, {} -> {}", c.h, c.w, c.c_in, c.c_out));
    compare(
        [&](Inputs& in) {
          ops::Conv2dWeights weights{"conv", in.host({c.c_out, c.c_in, c.kernel, c.kernel}),
                                     c.bias ? in.host({c.c_out}) : Tensor{}, c.stride, c.padding};
          weights.upsamples = true;
          const auto conv = in.backend().prepare_conv2d(weights, in.dtype());
          const Tensor x = in.tensor({c.batch, c.h, c.w, c.c_in});
          const Shape shape = {c.batch, conv->out_h(c.h), conv->out_w(c.w), c.c_out};
          return ops::conv2d(x, *conv, c.residual ? in.tensor(shape) : Tensor{});
        },
        2 * sum_error(c.c_in * c.kernel * c.kernel), sum_bound(c.c_in * c.kernel * c.kernel));
  }
}

TEST_P(CudaOps, ElementwiseAndShuffles) {
  for (const std::int64_t width : {2, 16, 126, 40000}) {
    SCOPED_TRACE(fmt::format("width {}", width));
    const Shape shape = {2, 3, width};
    for (const auto activation : {ops::Activation::kSilu, ops::Activation::kGeluTanh,
                                  ops::Activation::kQuickGelu, ops::Activation::kNone}) {
      compare([&](Inputs& in) { return ops::activate(in.strided(shape), activation); }, 0x1p-22);
      compare([&](Inputs& in) { return ops::gated_activation(in.strided(shape), activation); },
              0x1p-22);
    }
    compare([&](Inputs& in) { return ops::add(in.strided(shape), in.tensor({3, width})); }, 0);
    compare(
        [&](Inputs& in) {
          const Tensor x = in.tensor(shape);
          return ops::add_scaled(x, in.tensor(shape), -0.3F);
        },
        0x1p-23);
    compare([&](Inputs& in) { return ops::affine(in.strided(shape), 1.7F, -0.4F); }, 0x1p-23);
    compare([&](Inputs& in) { return ops::contiguous(in.tensor(shape).permute({2, 0, 1})); }, 0);
  }
  compare(
      [](Inputs& in) {
        return ops::contiguous(in.tensor({2, 3, 4, 5, 2, 6}).permute({5, 0, 3, 1, 4, 2}));
      },
      0);
  for (const std::int64_t channels : {7, 64}) {
    compare([&](Inputs& in) { return ops::upsample_nearest2x(in.tensor({2, 5, 3, channels})); }, 0);
  }
}

// Every bfloat16 number, NaN, infinities and ties too, becomes the host's level.
TEST_P(CudaOps, PixelsOfEveryNumber) {
  const Tensor numbers = Tensor::host({65536}, DType::kBF16);
  for (std::uint32_t i = 0; i < 65536; ++i) {
    numbers.data<std::uint16_t>()[i] = static_cast<std::uint16_t>(i);
  }
  for (const std::int64_t count : {65536, 65533}) {
    const auto levels = [&](ops::Backend& backend) {
      const Tensor x = ops::cast(backend.upload(numbers, DType::kBF16), GetParam());
      const Tensor host = backend.download(ops::to_pixels(x.slice(0, 0, count)));
      return std::vector<std::uint8_t>(host.data<std::uint8_t>(),
                                       host.data<std::uint8_t>() + count);
    };
    EXPECT_EQ(levels(*cuda_), levels(*reference_));
  }
}

// Every bfloat16 number, so NaN, infinities, ties and subnormals too, becomes the host's code.
TEST_P(CudaOps, CodesOfEveryNumber) {
  if (!bf16()) GTEST_SKIP() << "for bf16";
  Tensor numbers = Tensor::host({1, 256, 256}, DType::kBF16);
  for (std::int64_t i = 0; i < numbers.elements(); ++i) {
    numbers.data<dither::bf16>()[i].bits = static_cast<std::uint16_t>(i);
  }
  const Tensor codes = Tensor::empty(numbers.shape(), DType::kF8E4M3, *cuda_);
  cuda_->copy(cuda_->upload(numbers, DType::kBF16), codes);
  const Tensor host = cuda_->download(codes);
  for (std::int64_t i = 0; i < numbers.elements(); ++i) {
    const float value = to_float(numbers.data<dither::bf16>()[i]);
    ASSERT_EQ(host.data<std::uint8_t>()[i], to_e4m3(value)) << value;
  }
}

// In parts of 2 MiB, by several threads where there are several, from memory and from a file.
TEST_P(CudaOps, UploadsEveryByte) {
  const TempFolder folder;
  std::string content((std::size_t{13} << 20U) + 5, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) {
    content[i] = static_cast<char>((i * 2654435761U) >> 13U);
  }
  const auto file = MappedFile::open(folder.write("weights", content));
  const auto in_file = std::make_shared<Storage>(file->bytes(), file);
  for (const std::int64_t bytes : {0, 1, (2 << 20) - 1, (2 << 20) + 1, 13 << 20}) {
    for (const std::int64_t offset : {0, 5}) {
      SCOPED_TRACE(fmt::format("{} bytes from {} on", bytes, offset));
      const Tensor stored = Tensor::view(in_file, offset, {bytes}, DType::kU8);
      const Tensor memory = Tensor::host({bytes}, DType::kU8);
      std::copy_n(stored.raw(), stored.bytes(), memory.raw());
      for (const Tensor& host : {stored, memory}) {
        const Tensor back = cuda_->download(cuda_->upload(host, DType::kU8));
        EXPECT_TRUE(std::equal(back.raw(), back.raw() + back.bytes(), memory.raw()));
      }
    }
  }
}

// A file that became shorter is an error, whichever thread finds it, and not the end.
TEST_P(CudaOps, UploadNamesTheFileThatEnds) {
  const TempFolder folder;
  const auto path = folder.write("weights", std::string(std::size_t{9} << 20U, 'w'));
  const auto file = MappedFile::open(path);
  const Tensor stored = Tensor::view(std::make_shared<Storage>(file->bytes(), file), 0,
                                     {std::int64_t{9} << 20U}, DType::kU8);
  std::filesystem::resize_file(path, std::size_t{3} << 20U);
  const Error error = error_of([&] { cuda_->upload(stored, DType::kU8); });
  EXPECT_EQ(error.code(), ErrorCode::kIo);
  EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos);
}

}  // namespace
}  // namespace dither
