#include "backends/cpu/peak.h"

#include <algorithm>
#include <chrono>

#include "backends/cpu/cpu_backend.h"
#include "ops/ops.h"

namespace dither::cpu {

double measure_matmul_peak(DType dtype, int threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t kExtent = 1536;  // three float32 matrices: 28 MB, beyond every cache
  const auto backend = make_cpu_backend({.threads = threads});
  const ops::LinearShard shard{"peak", Tensor::host({kExtent, kExtent}, dtype), {}};
  const auto layer = backend->prepare_linear({&shard, 1}, dtype);
  const Tensor x = backend->upload(Tensor::host({kExtent, kExtent}, dtype), dtype);
  ops::linear(x, *layer);  // compiles the kernel, wakes the threads

  double best = 0;
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    const auto start = Clock::now();
    ops::linear(x, *layer);
    const std::chrono::duration<double> elapsed = Clock::now() - start;
    best = std::max(best, 2.0 * kExtent * kExtent * kExtent / elapsed.count());
  } while (Clock::now() < deadline);
  return best;
}

}  // namespace dither::cpu
