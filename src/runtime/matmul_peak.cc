#include "runtime/matmul_peak.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace dither {
namespace {

/// Small values without structure, so that products neither overflow nor become denormal.
Tensor filled_matrix(std::int64_t rows, std::int64_t cols) {
  const Tensor matrix = Tensor::host({rows, cols}, DType::kF32);
  float* const values = matrix.data<float>();
  std::uint32_t state = 1;
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    state = state * 1664525U + 1013904223U;  // linear congruential, Numerical Recipes
    values[i] = static_cast<float>(state >> 8) * 0x1p-24F - 0.5F;
  }
  return matrix;
}

double measure(ops::Backend& backend, DType dtype, std::int64_t size) {
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  constexpr Seconds kBudget{0.5};
  constexpr int kMinRuns = 3;

  const ops::LinearShard shard{.name = "peak", .weight = filled_matrix(size, size), .bias = {}};
  const auto weights = backend.prepare_linear({&shard, 1}, dtype);
  const Tensor x = backend.upload(filled_matrix(size, size), dtype);
  const Tensor y = Tensor::empty({size, size}, dtype, backend);

  Seconds best = Seconds::max();
  const auto start = Clock::now();
  for (int run = 0; run < kMinRuns || Clock::now() - start < kBudget; ++run) {
    const auto begin = Clock::now();
    backend.linear(x, *weights, {}, y);
    backend.synchronize();
    best = std::min(best, Seconds(Clock::now() - begin));
  }
  const auto n = static_cast<double>(size);
  return 2e-9 * n * n * n / best.count();
}

}  // namespace

double measure_matmul_peak(ops::Backend& backend, DType dtype) {
  constexpr double kFast = 10'000;
  const double rate = measure(backend, dtype, 2048);
  return rate < kFast ? rate : std::max(rate, measure(backend, dtype, 8192));
}

}  // namespace dither
