// Results do not depend on the number of threads, whatever kernels oneDNN has for the processor.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/strided.h"
#include "ops/ops.h"
#include "ops/test_inputs.h"

namespace dither::cpu {
namespace {

using Inputs = ops::TestInputs;
using ::testing::Values;

class AnyThreads : public ::testing::TestWithParam<DType> {
 protected:
  template <typename Formula>
  static void expect_same_bits(const Formula& formula) {
    const auto run = [&](int threads) {
      const auto backend = make_cpu_backend({.threads = threads});
      Inputs inputs(*backend, GetParam());
      return to_floats(formula(inputs));
    };
    const std::vector<float> one = run(1);
    for (const int threads : {2, 3, 4, 5, 6, 8, 12}) EXPECT_EQ(run(threads), one) << threads;
  }
};

INSTANTIATE_TEST_SUITE_P(DTypes, AnyThreads, Values(DType::kF32, DType::kBF16),
                         [](const auto& test) { return std::string(dtype_name(test.param)); });

TEST_P(AnyThreads, Linear) {
  for (const auto& [rows, n, k] : std::vector<std::array<std::int64_t, 3>>{{1, 256, 256},
                                                                           {1, 96, 3072},
                                                                           {2, 768, 256},
                                                                           {17, 300, 1000},
                                                                           {64, 64, 256},
                                                                           {64, 256, 1280},
                                                                           {77, 128, 256},
                                                                           {128, 768, 256},
                                                                           {300, 48, 1000},
                                                                           {576, 64, 768}}) {
    SCOPED_TRACE(fmt::format("L {} N {} K {}", rows, n, k));
    const Shape x = {1, rows, k};
    const Shape y = {1, rows, n};
    expect_same_bits([&](Inputs& in) {
      const std::vector<ops::LinearShard> shards = {{"w", in.host({n, k}), in.host({n})}};
      const auto layer = in.backend().prepare_linear(shards, in.dtype());
      return ops::linear(in.tensor(x), *layer,
                         {ops::Activation::kGeluTanh, in.tensor({1, n}), in.tensor(y)});
    });
  }
}

TEST_P(AnyThreads, Conv2d) {
  for (const auto& [side, c_in, c_out, kernel] :
       std::vector<std::array<std::int64_t, 4>>{{9, 3, 32, 3},
                                                {16, 16, 96, 3},
                                                {17, 17, 33, 3},
                                                {12, 64, 48, 1},
                                                {40, 32, 3, 3},
                                                {64, 96, 3, 3},
                                                {33, 3, 48, 3},
                                                {31, 5, 7, 1},
                                                {50, 20, 12, 3}}) {
    SCOPED_TRACE(fmt::format("{0} x {0}, {1} -> {2}", side, c_in, c_out));
    const int around = kernel == 3 ? 1 : 0;
    expect_same_bits([&](Inputs& in) {
      const auto conv = in.backend().prepare_conv2d({"conv",
                                                     in.host({c_out, c_in, kernel, kernel}),
                                                     in.host({c_out}),
                                                     1,
                                                     {around, around, around, around}},
                                                    in.dtype());
      return ops::conv2d(in.tensor({1, side, side, c_in}), *conv,
                         in.tensor({1, side, side, c_out}));
    });
  }
}

TEST_P(AnyThreads, Conv3d) {
  for (const auto& [c_in, c_out, kernel] :
       std::vector<std::array<std::int64_t, 3>>{{3, 5, 3}, {16, 24, 3}, {17, 33, 1}, {32, 48, 1}}) {
    SCOPED_TRACE(fmt::format("{} -> {}", c_in, c_out));
    const int around = kernel == 3 ? 1 : 0;
    expect_same_bits([&](Inputs& in) {
      const auto conv = in.backend().prepare_conv3d({"conv",
                                                     in.host({c_out, c_in, 3, kernel, kernel}),
                                                     in.host({c_out}),
                                                     1,
                                                     {around, around, around, around}},
                                                    in.dtype());
      return ops::conv3d(in.tensor({1, 5, 7, 9, c_in}), *conv, {});
    });
  }
}

}  // namespace
}  // namespace dither::cpu
