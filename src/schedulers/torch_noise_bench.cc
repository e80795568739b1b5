#include <benchmark/benchmark.h>

#include "schedulers/torch_noise.h"

namespace dither::schedulers {
namespace {

template <typename Generator, NoiseDType dtype>
void BM_Randn(benchmark::State& state) {
  Generator generator(42);
  for (auto _ : state) benchmark::DoNotOptimize(generator.randn(state.range(0), dtype));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

// Latents of the demo model and of FLUX.1 at 1024 x 1024, and a million values.
constexpr int64_t kDemo = 4096;
constexpr int64_t kFlux1 = 262144;
constexpr int64_t kMillion = 1 << 20;
BENCHMARK(BM_Randn<TorchCpuGenerator, NoiseDType::kF32>)->Arg(kDemo)->Arg(kFlux1)->Arg(kMillion);
BENCHMARK(BM_Randn<TorchCpuGenerator, NoiseDType::kBF16>)->Arg(kDemo)->Arg(kFlux1)->Arg(kMillion);
BENCHMARK(BM_Randn<TorchCudaGenerator, NoiseDType::kF32>)->Arg(kDemo)->Arg(kFlux1)->Arg(kMillion);

}  // namespace
}  // namespace dither::schedulers
