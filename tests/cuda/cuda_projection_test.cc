// Projections that are finished where they are made, against the reference backend's product,
// norm, rotation and gate one after the other.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "cuda/cuda_ops.h"
#include "cuda/value_blocks.h"

namespace dither {
namespace {

using namespace cuda_test;  // NOLINT(google-build-using-namespace)

class CudaProjection : public CudaOps {
 protected:
  /// How often the kernel ran during `work`.
  std::ptrdiff_t launches(const std::function<void()>& work) {
    return std::ranges::count_if(cuda_->trace(work), [](const ops::KernelRecord& record) {
      return record.name.find("project<") != std::string::npos;
    });
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaProjection, ::testing::Values(DType::kBF16),
                         [](const auto& dtype) { return std::string(dtype_name(dtype.param)); });

enum class Weights { kBf16, kFp8, kFp8Rows, kWeightOnly };

constexpr std::int64_t kHeadDim = 128;

/// `count` layers of N features that are executed as one.
std::vector<ops::LinearShard> make_shards(Inputs& in, Weights format, std::int64_t count,
                                          std::int64_t n, std::int64_t k) {
  std::vector<ops::LinearShard> shards;
  for (std::int64_t i = 0; i < count; ++i) {
    ops::LinearShard shard{.name = "w", .weight = {}, .bias = in.host({n})};
    if (format == Weights::kBf16) {
      shard.weight = in.host({n, k});
    } else {
      const float step = format == Weights::kFp8Rows ? 0.25F * static_cast<float>(i) : 0;
      shard.weight = in.host_codes({n, k});
      shard.weight_scale = (0.5F + step) / 448;
      if (format != Weights::kWeightOnly) shard.input_scale = 1.0F / 448;
    }
    shards.push_back(std::move(shard));
  }
  return shards;
}

/// Tokens per stream so that tiles of 256 x 256 fill the processors of an H100 or H200 and still
/// end in the middle of a tile.
struct Case {
  std::int64_t batch;
  std::vector<std::int64_t> tokens;
  std::int64_t heads, k, gated;
};

struct Projected {
  ops::AttentionOperands qkv;
  std::vector<Tensor> gated;
};

Projected project(Inputs& in, const Case& c, Weights format,
                  ops::AttentionPrecision precision = ops::AttentionPrecision::kActivations) {
  const std::int64_t width = c.heads * kHeadDim;
  std::vector<std::unique_ptr<ops::PreparedLinear>> layers;
  std::vector<ops::HeadProjection> streams;
  Projected result;
  std::int64_t tokens = 0;
  for (const std::int64_t length : c.tokens) {
    auto shards = make_shards(in, format, 3, width, c.k);
    if (c.gated > 0) {
      auto more = make_shards(in, format, 1, 2 * c.gated, c.k);
      shards.push_back(std::move(more.front()));
    }
    layers.push_back(in.backend().prepare_linear(shards, in.dtype()));
    ops::HeadProjection stream{.x = in.tensor({c.batch, length, c.k}),
                               .weights = layers.back().get(),
                               .q_norm = in.tensor({kHeadDim}),
                               .k_norm = in.tensor({kHeadDim})};
    if (c.gated > 0) {
      const Tensor wide = in.tensor({c.batch, length, c.gated + 16});
      const Tensor out = wide.slice(-1, 16, c.gated + 16);
      stream.gated = ops::GatedColumns{ops::Activation::kSilu, {.tensor = out}};
      result.gated.push_back(out);
    }
    streams.push_back(std::move(stream));
    tokens += length;
  }
  const ops::Rope rope{in.table({tokens, kHeadDim / 2}), in.table({tokens, kHeadDim / 2})};
  result.qkv = ops::project_heads(streams, rope, c.heads, 1e-6F, precision);
  return result;
}

const std::array<Case, 5> kCases = {{{1, {3205}, 3, 80, 0},
                                     {1, {128, 3205}, 3, 80, 0},
                                     {2, {1601}, 3, 48, 0},
                                     {1, {77, 2801}, 3, 144, 96},
                                     {1, {3277}, 2, 208, 224}}};

std::string name_of(const Case& c, Weights format) {
  return fmt::format("B {} L {} H {} K {} F {} weights {}", c.batch, c.tokens.back(), c.heads, c.k,
                     c.gated, static_cast<int>(format));
}

constexpr std::array kFormats = {Weights::kBf16, Weights::kFp8, Weights::kFp8Rows,
                                 Weights::kWeightOnly};

// Rows of different scales are several products where weights are expanded: then the steps run.
TEST_P(CudaProjection, ProjectHeads) {
  for (const Case& c : kCases) {
    for (const Weights format : kFormats) {
      SCOPED_TRACE(name_of(c, format));
      EXPECT_GE(launches([&] {
                  Inputs in(*cuda_, GetParam());
                  project(in, c, format);
                }),
                1);
      // q and k are about 1 before the norm's weight and the angles, which are up to 1; the
      // reference rounds the product to bf16 before it goes on.
      for (int part = 0; part < 3; ++part) {
        compare(
            [&](Inputs& in) {
              const Projected all = project(in, c, format);
              return part == 0 ? all.qkv.q : part == 1 ? all.qkv.k : all.qkv.v;
            },
            2 * sum_error(c.k) + 0x1p-11 * sum_bound(c.k), part < 2 ? 8 : sum_bound(c.k));
      }
      for (std::size_t i = 0; c.gated > 0 && i < c.tokens.size(); ++i) {
        compare([&](Inputs& in) { return project(in, c, format).gated[i]; },
                2 * sum_error(c.k) + 0x1p-11 * sum_bound(c.k), 2 * sum_bound(c.k) * sum_bound(c.k));
      }
    }
  }
}

// Codes are those of the bf16 values, which the same sums are rounded to.
TEST_P(CudaProjection, CodesOfHeads) {
  for (const Case& c : kCases) {
    for (const Weights format : {Weights::kBf16, Weights::kFp8}) {
      SCOPED_TRACE(name_of(c, format));
      Inputs in(*cuda_, GetParam());
      const ops::AttentionOperands values = project(in, c, format).qkv;
      Inputs again(*cuda_, GetParam());
      const ops::AttentionOperands codes =
          project(again, c, format, ops::AttentionPrecision::kE4m3).qkv;
      const auto expect_codes = [&](const Tensor& actual, const std::vector<float>& expected) {
        const Tensor host = cuda_->download(actual);
        for (std::size_t i = 0; i < expected.size(); ++i) {
          ASSERT_EQ(host.data<std::uint8_t>()[i], to_e4m3_saturated(expected[i]))
              << "element " << i;
        }
      };
      expect_codes(codes.q, to_floats(values.q));
      expect_codes(codes.k, to_floats(values.k));
      HostValueBlocks(codes).expect(to_floats(values.v), values.v.dim(1));
    }
  }
}

TEST_P(CudaProjection, GatedLinear) {
  struct Gated {
    std::int64_t batch, tokens, k, width;
  };
  // The last is too small for large tiles.
  for (const Gated& c : {Gated{1, 16801, 48, 96}, Gated{2, 2041, 272, 416}, Gated{1, 4090, 64, 512},
                         Gated{1, 7, 80, 96}}) {
    for (const Weights format : kFormats) {
      SCOPED_TRACE(fmt::format("B {} L {} K {} F {} weights {}", c.batch, c.tokens, c.k, c.width,
                               static_cast<int>(format)));
      const auto layer_of = [&](Inputs& in) {
        return in.backend().prepare_linear(make_shards(in, format, 1, 2 * c.width, c.k),
                                           in.dtype());
      };
      const auto run = [&](Inputs& in, const ops::Output& out) {
        const auto layer = layer_of(in);
        return ops::gated_linear(in.tensor({c.batch, c.tokens, c.k}), *layer,
                                 {ops::Activation::kSilu, out});
      };
      compare([&](Inputs& in) { return run(in, {}); },
              2 * sum_error(c.k) + 0x1p-11 * sum_bound(c.k), 2 * sum_bound(c.k) * sum_bound(c.k));
      Inputs in(*cuda_, GetParam());
      const std::vector<float> values = to_floats(run(in, {}));
      Inputs again(*cuda_, GetParam());
      if (layer_of(again)->e4m3_input()) {
        Inputs third(*cuda_, GetParam());
        const Tensor codes = cuda_->download(run(third, {.e4m3_scale = 0.05F}));
        for (std::size_t i = 0; i < values.size(); ++i) {
          ASSERT_EQ(codes.data<std::uint8_t>()[i], to_e4m3_saturated(values[i] * (1 / 0.05F)))
              << "element " << i;
        }
      }
    }
  }
}

// Activations other than SiLU, widths that are no multiple of 32: in steps.
TEST_P(CudaProjection, WhatTheKernelDoesNotTake) {
  struct Gated {
    std::int64_t width;
    ops::Activation activation;
  };
  for (const auto& [width, activation] :
       {Gated{96, ops::Activation::kGeluTanh}, Gated{100, ops::Activation::kSilu}}) {
    const auto run = [&](Inputs& in) {
      const auto layer = in.backend().prepare_linear(
          make_shards(in, Weights::kBf16, 1, 2 * width, 48), in.dtype());
      return ops::gated_linear(in.tensor({1, 16801, 48}), *layer, {activation, {}});
    };
    EXPECT_EQ(launches([&] {
                Inputs in(*cuda_, GetParam());
                run(in);
              }),
              0);
    compare(run, 2 * sum_error(48), 2 * sum_bound(48) * sum_bound(48));
  }
}

}  // namespace
}  // namespace dither
