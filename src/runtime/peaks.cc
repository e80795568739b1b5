#include "runtime/peaks.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>

namespace dither {
namespace {

using Seconds = std::chrono::duration<double>;

/// The shortest of `work`'s runs, three at least, within about half a second.
Seconds fastest(ops::Backend& backend, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  constexpr Seconds kBudget{0.5};
  constexpr int kMinRuns = 3;
  Seconds best = Seconds::max();
  const auto start = Clock::now();
  for (int run = 0; run < kMinRuns || Clock::now() - start < kBudget; ++run) {
    const auto begin = Clock::now();
    work();
    backend.synchronize();
    best = std::min(best, Seconds(Clock::now() - begin));
  }
  return best;
}

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
  const ops::LinearShard shard{.name = "peak", .weight = filled_matrix(size, size), .bias = {}};
  const auto weights = backend.prepare_linear({&shard, 1}, dtype);
  const Tensor x = backend.upload(filled_matrix(size, size), dtype);
  const Tensor y = Tensor::empty({size, size}, dtype, backend);
  const auto n = static_cast<double>(size);
  return 2e-9 * n * n * n / fastest(backend, [&] { backend.linear(x, *weights, {}, y); }).count();
}

}  // namespace

double measure_matmul_peak(ops::Backend& backend, DType dtype) {
  constexpr double kFast = 10'000;
  const double rate = measure(backend, dtype, 2048);
  return rate < kFast ? rate : std::max(rate, measure(backend, dtype, 8192));
}

double measure_copy_peak(ops::Backend& backend) {
  constexpr std::int64_t kBytes = std::int64_t{128} << 20;
  const Tensor x = Tensor::empty({kBytes}, DType::kU8, backend);
  const Tensor y = Tensor::empty({kBytes}, DType::kU8, backend);
  return 2e-9 * static_cast<double>(kBytes) / fastest(backend, [&] { backend.copy(x, y); }).count();
}

}  // namespace dither
