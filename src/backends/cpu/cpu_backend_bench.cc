#include <benchmark/benchmark.h>

#include <cmath>
#include <memory>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/peak.h"
#include "backends/cpu/strided.h"
#include "ops/ops.h"
#include "quant/fp8.h"

/// Sizes are the demo model's (128 tokens, 4 heads of 64) and FLUX.1's at 1024 x 1024 pixels. The
/// last argument of a benchmark is the dtype: 0 float32, 1 bfloat16, 2 bfloat16 with FP8 linears.
namespace dither::cpu {
namespace {

DType dtype_of(std::int64_t argument) { return argument == 0 ? DType::kF32 : DType::kBF16; }

Tensor filled(ops::Backend& backend, const Shape& shape, DType dtype) {
  Tensor host = Tensor::host(shape, DType::kF32);
  float* values = host.data<float>();
  for (std::int64_t i = 0; i < host.elements(); ++i) {
    values[i] = static_cast<float>((i * 7919) % 1009) / 1009.0F - 0.5F;
  }
  return backend.upload(host, dtype);
}

void set_flops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] = benchmark::Counter(
      flops, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

void BM_Peak(benchmark::State& state) {
  double best = 0;
  for (auto _ : state) best = measure_matmul_peak(dtype_of(state.range(0)));
  state.counters["FLOP/s"] =
      benchmark::Counter(best, benchmark::Counter::kDefaults, benchmark::Counter::kIs1000);
}
BENCHMARK(BM_Peak)->Arg(0)->Arg(1)->Iterations(1)->Unit(benchmark::kMillisecond);

/// The same weights as E4M3 codes, for activations below 1.
ops::LinearShard in_fp8(const ops::LinearShard& shard) {
  const std::vector<float> values = to_floats(shard.weight);
  const float scale = quant::fp8_scale(quant::amax(values), shard.name);
  const Tensor codes = Tensor::host(shard.weight.shape(), DType::kF8E4M3);
  quant::quantize_weight_e4m3(values, scale,
                              {reinterpret_cast<std::uint8_t*>(codes.raw()), values.size()});
  return {shard.name, codes, shard.bias, scale, quant::fp8_scale(1, shard.name)};
}

/// [M, K] x [N, K]^T, epilogue 0: bias, 1: bias and GELU, 2: bias, gate and residual.
void BM_Linear(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const std::int64_t m = state.range(0);
  const std::int64_t n = state.range(1);
  const std::int64_t k = state.range(2);
  const DType dtype = dtype_of(state.range(4));
  ops::LinearShard shard{"w", filled(*backend, {n, k}, dtype), filled(*backend, {n}, dtype)};
  if (state.range(4) == 2) shard = in_fp8(shard);
  const auto layer = backend->prepare_linear({&shard, 1}, dtype);
  const Tensor x = filled(*backend, {1, m, k}, dtype);
  ops::LinearEpilogue epilogue;
  if (state.range(3) == 1) epilogue.activation = ops::Activation::kGeluTanh;
  if (state.range(3) == 2) {
    epilogue.gate = filled(*backend, {1, n}, dtype);
    epilogue.residual = filled(*backend, {1, m, n}, dtype);
  }
  for (auto _ : state) benchmark::DoNotOptimize(ops::linear(x, *layer, epilogue));
  set_flops(state, 2.0 * static_cast<double>(m * n * k));
}
void linear_shapes(benchmark::internal::Benchmark* benchmark) {
  for (const int dtype : {0, 1, 2}) {
    benchmark->Args({64, 768, 256, 0, dtype});     // double block: q, k, v of a stream
    benchmark->Args({64, 256, 256, 2, dtype});     // its output projection
    benchmark->Args({64, 1024, 256, 1, dtype});    // feed forward, in
    benchmark->Args({64, 256, 1024, 2, dtype});    // and out
    benchmark->Args({128, 768, 256, 0, dtype});    // single block: q, k, v
    benchmark->Args({128, 1024, 256, 1, dtype});   // its feed forward
    benchmark->Args({128, 256, 1280, 2, dtype});   // output of attention and feed forward
    benchmark->Args({1, 1536, 256, 0, dtype});     // modulation
    benchmark->Args({512, 3072, 3072, 0, dtype});  // FLUX.1's width
  }
}
BENCHMARK(BM_Linear)->Apply(linear_shapes)->Unit(benchmark::kMicrosecond)->UseRealTime();

void BM_Attention(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const std::int64_t tokens = state.range(0);
  const std::int64_t heads = state.range(1);
  const std::int64_t d = state.range(2);
  const Tensor q = filled(*backend, {1, tokens, heads, d}, dtype_of(state.range(3)));
  const ops::AttentionOptions options{.scale = 1 / std::sqrt(static_cast<float>(d))};
  for (auto _ : state) benchmark::DoNotOptimize(ops::attention({q, q, q}, options));
  set_flops(state, 4.0 * static_cast<double>(tokens * tokens * heads * d));
}
BENCHMARK(BM_Attention)
    ->Args({128, 4, 64, 0})
    ->Args({128, 4, 64, 1})
    ->Args({256, 1, 96, 1})
    ->Args({4096, 1, 512, 1})
    ->Args({4608, 24, 128, 1})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

/// Bytes read and written, each once.
void set_traffic(benchmark::State& state, const Tensor& x) {
  state.SetBytesProcessed(state.iterations() * 2 * static_cast<std::int64_t>(x.bytes()));
}

void BM_LayerNormModulate(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const DType dtype = dtype_of(state.range(2));
  const Tensor x = filled(*backend, {1, state.range(0), state.range(1)}, dtype);
  const Tensor shift = filled(*backend, {1, state.range(1)}, dtype);
  for (auto _ : state) {
    benchmark::DoNotOptimize(ops::layer_norm_modulate(x, shift, shift, 1e-6F));
  }
  set_traffic(state, x);
}
BENCHMARK(BM_LayerNormModulate)
    ->Args({128, 256, 0})
    ->Args({128, 256, 1})
    ->Args({4608, 3072, 1})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

void BM_NormRopeHeads(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const std::int64_t tokens = state.range(0);
  const std::int64_t heads = state.range(1);
  const std::int64_t d = state.range(2);
  const DType dtype = dtype_of(state.range(3));
  const Tensor weight = filled(*backend, {d}, dtype);
  const std::vector<ops::PackedQkv> streams = {
      {filled(*backend, {1, tokens, 3 * heads * d}, dtype), weight, weight}};
  const Tensor table = filled(*backend, {tokens, d / 2}, DType::kF32);
  for (auto _ : state) {
    benchmark::DoNotOptimize(ops::norm_rope_heads(streams, {table, table}, heads, 1e-6F));
  }
  set_traffic(state, streams[0].qkv);
}
BENCHMARK(BM_NormRopeHeads)
    ->Args({128, 4, 64, 0})
    ->Args({128, 4, 64, 1})
    ->Args({4608, 24, 128, 1})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

void BM_GroupNormSilu(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const std::int64_t extent = state.range(0);
  const std::int64_t channels = state.range(1);
  const DType dtype = dtype_of(state.range(2));
  const Tensor x = filled(*backend, {1, extent, extent, channels}, dtype);
  const Tensor weight = filled(*backend, {channels}, dtype);
  for (auto _ : state) {
    benchmark::DoNotOptimize(ops::group_norm(x, 16, weight, weight, 1e-6F, ops::Activation::kSilu));
  }
  set_traffic(state, x);
}
BENCHMARK(BM_GroupNormSilu)
    ->Args({16, 96, 1})
    ->Args({128, 32, 0})
    ->Args({128, 32, 1})
    ->Args({1024, 128, 1})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

void BM_Conv2d(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const std::int64_t extent = state.range(0);
  const std::int64_t in = state.range(1);
  const std::int64_t out = state.range(2);
  const DType dtype = dtype_of(state.range(3));
  const auto conv = backend->prepare_conv2d(
      {"conv", filled(*backend, {out, in, 3, 3}, dtype), {}, 1, {1, 1, 1, 1}}, dtype);
  const Tensor x = filled(*backend, {1, extent, extent, in}, dtype);
  for (auto _ : state) benchmark::DoNotOptimize(ops::conv2d(x, *conv));
  set_flops(state, 18.0 * static_cast<double>(extent * extent * in * out));
}
BENCHMARK(BM_Conv2d)
    ->Args({16, 96, 96, 0})
    ->Args({16, 96, 96, 1})
    ->Args({64, 64, 48, 0})
    ->Args({64, 64, 48, 1})
    ->Args({128, 32, 32, 0})
    ->Args({128, 32, 32, 1})
    ->Args({128, 32, 3, 1})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

}  // namespace
}  // namespace dither::cpu
