// Linear layers of the CUDA backend against the reference backend, in every form that weights have.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cuda/cuda_ops.h"

namespace dither {
namespace {

using namespace cuda_test;  // NOLINT(google-build-using-namespace)

class CudaLinear : public CudaOps {};

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaLinear, ::testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& dtype) { return std::string(dtype_name(dtype.param)); });

struct LinearCase {
  std::int64_t batch, rows, n, k;
};
constexpr LinearCase kLinears[] = {{1, 1, 3, 1},       {1, 1, 64, 127},     {2, 5, 3, 33},
                                   {2, 17, 127, 64},   {1, 128, 256, 1280}, {2, 1, 96, 16},
                                   {1, 300, 3072, 768}};

TEST_P(CudaLinear, Linear) {
  for (const auto& [batch, rows, n, k] : kLinears) {
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
          2 * sum_error(k), sum_bound(k));
    }
    compare(
        [&](Inputs& in) {
          const std::vector<ops::LinearShard> shards = {{"w", in.host({n, k}), {}}};
          const auto layer = in.backend().prepare_linear(shards, in.dtype());
          return ops::linear(in.tensor({batch, rows, k}), *layer,
                             {.residual = in.strided({batch, rows, n})});
        },
        2 * sum_error(k));
    compare(
        [&](Inputs& in) {
          const std::vector<ops::LinearShard> shards = {{"w", in.host({n, k}), {}}};
          const auto layer = in.backend().prepare_linear(shards, in.dtype());
          const Tensor x = in.tensor({batch, rows, k});
          return ops::linear(x, *layer, {.gate = in.table({batch, n})});
        },
        2 * sum_error(k), sum_bound(k));
  }
}

TEST_P(CudaLinear, LinearWritesIntoPartsOfATensor) {
  compare(
      [](Inputs& in) {
        const std::vector<ops::LinearShard> shards = {{"w", in.host({48, 40}), in.host({48})}};
        const auto layer = in.backend().prepare_linear(shards, in.dtype());
        const Tensor all = in.tensor({1, 9, 100});
        ops::linear(in.tensor({1, 9, 40}), *layer, {.out = {.tensor = all.slice(2, 33, 81)}});
        return all;
      },
      sum_error(40));
}

// Static W8A8: equal scales are one product, different ones keep a scale per row; shapes that FP8
// units cannot take multiply the same codes as bf16. Sums on FP8 units keep 13 bits or so.
TEST_P(CudaLinear, Fp8Linear) {
  for (const auto& [rows, n, k] : {std::array<std::int64_t, 3>{1, 64, 64},
                                   {33, 128, 272},
                                   {5, 32, 40},
                                   {7, 24, 64},
                                   {256, 3072, 1024}}) {
    for (const bool same_scale : {true, false}) {
      SCOPED_TRACE(fmt::format("L {} N {} K {} one scale {}", rows, n, k, same_scale));
      compare(
          [&](Inputs& in) {
            std::vector<ops::LinearShard> shards;
            for (int i = 0; i < 2; ++i) {
              ops::LinearShard shard{"w", in.host_codes({n / 2, k}), in.host({n / 2})};
              shard.weight_scale =
                  same_scale ? 1.0F / 448 : (0.5F + 0.25F * static_cast<float>(i)) / 448;
              shard.input_scale = 1.0F / 448;
              shards.push_back(std::move(shard));
            }
            const auto layer = in.backend().prepare_linear(shards, in.dtype());
            return ops::linear(in.tensor({1, rows, k}), *layer,
                               {.activation = ops::Activation::kGeluTanh});
          },
          2 * sum_error(k) + (bf16() ? 0x1p-11 * sum_bound(k) : 0));
    }
  }
}

// Weight-only codes are expanded to the activations' dtype at every use: the reference's numbers,
// whether shards share a scale (one product) or not (one each), with and without row exponents.
TEST_P(CudaLinear, WeightOnlyE4m3Linear) {
  for (const auto& [rows, n, k] : {std::array<std::int64_t, 3>{1, 2, 1},
                                   {1, 64, 64},
                                   {33, 130, 17},
                                   {5, 32, 40},
                                   {7, 24, 1001},
                                   {256, 3072, 1024}}) {
    for (const bool same_scale : {true, false}) {
      for (const bool exponents : {true, false}) {
        SCOPED_TRACE(fmt::format("L {} N {} K {} one scale {} exponents {}", rows, n, k, same_scale,
                                 exponents));
        compare(
            [&](Inputs& in) {
              std::vector<ops::LinearShard> shards;
              for (int i = 0; i < 2; ++i) {
                ops::LinearShard shard{"w", in.host_codes({n / 2, k}), in.host({n / 2})};
                shard.weight_scale =
                    same_scale ? 1.0F / 448 : (0.5F + 0.25F * static_cast<float>(i)) / 448;
                for (std::int64_t row = 0; exponents && row < n / 2; ++row) {
                  shard.row_exponents.push_back(static_cast<std::int8_t>(-(row % 5)));
                }
                shards.push_back(std::move(shard));
              }
              const auto layer = in.backend().prepare_linear(shards, in.dtype());
              return ops::linear(
                  in.tensor({1, rows, k}), *layer,
                  {.activation = ops::Activation::kGeluTanh, .residual = in.strided({1, rows, n})});
            },
            2 * sum_error(k), sum_bound(k));
      }
    }
  }
}

TEST_P(CudaLinear, WeightOnlyE4m3StaysOneByteAWeight) {
  Inputs in(*cuda_, GetParam());
  std::vector<ops::LinearShard> shards = {{"w", in.host_codes({256, 1024}), {}, 0.5F}};
  const auto plain = cuda_->prepare_linear(shards, GetParam());
  EXPECT_EQ(plain->resident_bytes(), 256 * 1024U);
  shards.front().row_exponents.assign(256, 3);
  const auto layer = cuda_->prepare_linear(shards, GetParam());
  EXPECT_EQ(layer->resident_bytes(), 256 * 1024U + 256 * 4U);
  const ops::LinearPrecision& record = layer->precision().front();
  EXPECT_EQ(record.resident, DType::kF8E4M3);
  EXPECT_EQ(record.product, GetParam());
  EXPECT_EQ(record.kernel, bf16() ? "cuda bf16, e4m3 weights" : "cuda f32, e4m3 weights");
  EXPECT_FALSE(layer->e4m3_input());
}

// Layers of several sizes share the memory that they are expanded into, also in a graph, which a
// larger layer that comes later must not pull away.
TEST_P(CudaLinear, WeightOnlyE4m3RepeatsInAGraph) {
  Inputs in(*cuda_, GetParam());
  const auto layer = [&](std::int64_t n, std::int64_t k) {
    std::vector<ops::LinearShard> shards = {{"w", in.host_codes({n, k}), {}, 1.0F / 448}};
    shards.front().row_exponents.assign(static_cast<std::size_t>(n), -1);
    return cuda_->prepare_linear(shards, GetParam());
  };
  const auto first = layer(64, 96);
  const auto second = layer(160, 64);
  const Tensor x = in.tensor({1, 9, 96});
  const Tensor y = Tensor::empty({1, 9, 160}, GetParam(), *cuda_);
  const auto graph =
      cuda_->record([&] { ops::linear(ops::linear(x, *first), *second, {.out = {.tensor = y}}); });
  graph->replay();
  const std::vector<float> expected = to_floats(y);
  graph->replay();
  EXPECT_EQ(to_floats(y), expected);
  const auto larger = layer(512, 96);
  const std::vector<float> other = to_floats(ops::linear(x, *larger));
  graph->replay();
  EXPECT_EQ(to_floats(y), expected);
  EXPECT_EQ(to_floats(ops::linear(x, *larger)), other);
}

// One pass or two, the same bits: results, norms and their codes.
TEST_P(CudaLinear, LinearNormIsLinearThenNorm) {
  for (const auto& [batch, rows, n, k] : kLinears) {
    for (const bool codes : {false, true}) {
      SCOPED_TRACE(fmt::format("B {} L {} N {} K {} codes {}", batch, rows, n, k, codes));
      Inputs in(*cuda_, GetParam());
      const std::vector<ops::LinearShard> shards = {{"w", in.host({n, k}), in.host({n})}};
      const auto layer = cuda_->prepare_linear(shards, GetParam());
      const Tensor x = in.strided({batch, rows, k});
      const Tensor residual = in.strided({batch, rows, n});
      const auto same_bits = [&](const Tensor& gate, ops::ModulatedNorm norm) {
        if (codes) norm.e4m3_scale = 0.01F;
        const ops::LinearEpilogue epilogue{.gate = gate, .residual = residual};
        const ops::NormedStream fused = ops::linear_norm(x, *layer, epilogue, norm);
        const Tensor y = ops::linear(x, *layer, epilogue);
        EXPECT_EQ(to_floats(fused.x), to_floats(y));
        EXPECT_EQ(to_floats(fused.normalized), to_floats(ops::layer_norm_modulate(y, norm)));
      };
      same_bits(in.strided({batch, n}),
                {.shift = in.strided({batch, n}), .scale = in.tensor({batch, n}), .eps = 1e-6F});
      // float32, and of all samples.
      same_bits(in.table({batch, n}),
                {.shift = in.table({1, n}), .scale = in.table({1, n}), .eps = 1e-6F});
      same_bits({}, {.shift = in.table({batch, n}), .scale = in.table({batch, n}), .eps = 1e-6F});
    }
  }
}

// So many rows that a block takes several, of one sample or of two.
TEST_P(CudaLinear, LinearNormOfManyRows) {
  for (const std::int64_t n : {3072, 4096, 5120, 6144}) {
    Inputs in(*cuda_, GetParam());
    const std::vector<ops::LinearShard> shards = {{"w", in.host({n, 16}), in.host({n})}};
    const auto layer = cuda_->prepare_linear(shards, GetParam());
    const Tensor x = in.tensor({2, 3001, 16});
    const Tensor residual = in.tensor({2, 3001, n});
    const Tensor own = in.tensor({2, 3 * n});
    const Tensor common = in.table({1, 2 * n});
    for (const bool codes : {false, true}) {
      for (const bool gated : {false, true}) {
        SCOPED_TRACE(fmt::format("N {} codes {} gated {}", n, codes, gated));
        ops::ModulatedNorm norm{.shift = own.slice(-1, 0, n), .scale = own.slice(-1, n, 2 * n)};
        if (!gated) norm.shift = common.slice(-1, 0, n), norm.scale = common.slice(-1, n, 2 * n);
        norm.eps = 1e-6F;
        if (codes) norm.e4m3_scale = 0.01F;
        ops::LinearEpilogue epilogue;
        if (gated) epilogue.gate = own.slice(-1, 2 * n, 3 * n);
        epilogue.residual = residual;
        const ops::NormedStream fused = ops::linear_norm(x, *layer, epilogue, norm);
        const Tensor y = ops::linear(x, *layer, epilogue);
        EXPECT_TRUE(to_floats(fused.x) == to_floats(y));
        EXPECT_TRUE(to_floats(fused.normalized) == to_floats(ops::layer_norm_modulate(y, norm)));
        // A few rows take a block each.
        ops::ModulatedNorm second = norm;
        if (gated) second.shift = own.slice(0, 1, 2).slice(-1, 0, n);
        if (gated) second.scale = own.slice(0, 1, 2).slice(-1, n, 2 * n);
        const Tensor rows = y.slice(0, 1, 2).slice(1, 2900, 3001);
        EXPECT_TRUE(to_floats(fused.normalized.slice(0, 1, 2).slice(1, 2900, 3001)) ==
                    to_floats(ops::layer_norm_modulate(rows, second)));
      }
    }
  }
}

// Of 1 MiB and of 5/8: a page of the driver, 2 MiB, is shared by up to four.
TEST_P(CudaLinear, WeightsLieOneBehindTheOther) {
  Inputs in(*cuda_, DType::kBF16);
  const auto prepare = [&](std::int64_t n) {
    const std::vector<ops::LinearShard> shards = {{"w", in.host({n, 1024}), {}}};
    return cuda_->prepare_linear(shards, DType::kBF16);
  };
  constexpr std::size_t kPage = std::size_t{2} << 20U;
  prepare(512);  // what the first one takes besides stays
  const std::size_t before = cuda_->memory().allocated_bytes;
  std::vector<std::unique_ptr<ops::PreparedLinear>> layers;
  std::size_t bytes = 0;
  for (int i = 0; i < 12; ++i) {
    layers.push_back(prepare(i % 3 == 0 ? 512 : 320));
    bytes += layers.back()->resident_bytes();
    const std::size_t taken = cuda_->memory().allocated_bytes - before;
    EXPECT_EQ(taken, (bytes + kPage - 1) / kPage * kPage);
  }
  // Neighbours go, in the middle and at the end: what stays is what it was, and new ones fit in.
  const Tensor x = in.tensor({1, 3, 1024});
  const std::vector<float> expected = to_floats(ops::linear(x, *layers[5], {}));
  for (const std::size_t i : {4, 6, 11, 10, 3, 7}) layers[i].reset();
  std::vector<std::unique_ptr<ops::PreparedLinear>> more;
  for (int i = 0; i < 5; ++i) more.push_back(prepare(512));
  EXPECT_EQ(to_floats(ops::linear(x, *layers[5], {})), expected);
  layers.clear();
  more.clear();
  EXPECT_EQ(prepare(512)->resident_bytes(), std::size_t{1} << 20U);
  EXPECT_LE(cuda_->memory().allocated_bytes, before + kPage);  // x
}

}  // namespace
}  // namespace dither
