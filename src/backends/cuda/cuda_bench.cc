// Rates of the kernels at FLUX.1's shapes (1024 x 1024: 4096 image and 512 text tokens), through
// the ops that use them, one call after another as in a step.
#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <random>
#include <vector>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/norm_rope.h"
#include "backends/cuda/kernels/quantize.h"
#include "ops/ops.h"
#include "tensor/float8.h"

namespace dither::cuda {
namespace {

constexpr std::int64_t kTokens = 4608;
constexpr std::int64_t kWidth = 3072;
constexpr std::int64_t kHeads = 24;

ops::Backend& backend() {
  static const auto instance = make_cuda_backend();
  return *instance;
}

/// Normal values; the same block again and again, which no kernel can tell.
Tensor random_host(const Shape& shape, DType dtype, float stddev) {
  constexpr std::int64_t kBlock = 1 << 16;
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, stddev);
  Tensor tensor = Tensor::host(shape, dtype);
  std::vector<float> block(kBlock);
  for (float& value : block) value = normal(random);
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    const float value = block[static_cast<std::size_t>(i % kBlock)];
    if (dtype == DType::kF8E4M3) {
      tensor.data<std::uint8_t>()[i] = to_e4m3_saturated(value);
    } else if (dtype == DType::kBF16) {
      tensor.data<bf16>()[i] = to_bf16(value);
    } else {
      tensor.data<float>()[i] = value;
    }
  }
  return tensor;
}

Tensor random(const Shape& shape, DType dtype = DType::kBF16) {
  return backend().upload(random_host(shape, dtype, dtype == DType::kF8E4M3 ? 90.0F : 1.0F), dtype);
}

/// Times batches of calls between two events.
template <typename Call>
void time_calls(benchmark::State& state, const Call& call) {
  constexpr int kBatch = 20;
  cudaStream_t stream = stream_of(backend());
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check(cudaEventCreate(&begin), "create an event");
  check(cudaEventCreate(&end), "create an event");
  for (int i = 0; i < 3; ++i) call();
  for (auto _ : state) {
    check(cudaEventRecord(begin, stream), "record an event");
    for (int i = 0; i < kBatch; ++i) call();
    check(cudaEventRecord(end, stream), "record an event");
    check(cudaEventSynchronize(end), "wait");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "read events");
    state.SetIterationTime(ms * 1e-3 / kBatch);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
}

void report_flops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

void report_bytes(benchmark::State& state, double bytes) {
  state.counters["B/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate,
                                             benchmark::Counter::OneK::kIs1000);
}

enum Format : std::uint8_t { kBf16, kFp8, kFp8Shards };

std::unique_ptr<ops::PreparedLinear> make_linear(std::int64_t n, std::int64_t k, Format format) {
  const int count = format == kFp8Shards ? 3 : 1;
  std::vector<ops::LinearShard> shards;
  for (int i = 0; i < count; ++i) {
    const DType dtype = format == kBf16 ? DType::kBF16 : DType::kF8E4M3;
    ops::LinearShard shard{
        .name = "bench",
        .weight = random_host({n / count, k}, dtype, format == kBf16 ? 0.02F : 90),
        .bias = random_host({n / count}, DType::kBF16, 0.02F)};
    if (format != kBf16) {
      shard.weight_scale = 0.0002F + 0.0001F * static_cast<float>(i);
      shard.input_scale = 0.01F;
    }
    shards.push_back(std::move(shard));
  }
  return backend().prepare_linear(shards, DType::kBF16);
}

/// A linear layer of FLUX.1: args M, N, K, Format, activation, codes out, columns of the result.
void linear(benchmark::State& state) {
  const std::int64_t m = state.range(0);
  const std::int64_t n = state.range(1);
  const std::int64_t k = state.range(2);
  const auto format = static_cast<Format>(state.range(3));
  const bool gelu = state.range(4) != 0;
  const bool codes = state.range(5) != 0;
  const auto weights = make_linear(n, k, format);
  const Tensor x = random({1, m, k}, format == kBf16 ? DType::kBF16 : DType::kF8E4M3);
  const std::int64_t columns = state.range(6) != 0 ? state.range(6) : n;
  const Tensor all = ops::empty_like(x, {1, m, columns}, codes ? DType::kF8E4M3 : DType::kBF16);
  ops::LinearEpilogue epilogue{
      .activation = gelu ? ops::Activation::kGeluTanh : ops::Activation::kNone,
      .out = {.tensor = all.slice(2, columns - n, columns)}};
  if (codes) epilogue.out.e4m3_scale = 0.01F;
  time_calls(state, [&] { ops::linear(x, *weights, epilogue); });
  report_flops(state, 2.0 * static_cast<double>(m * n * k));
}
BENCHMARK(linear)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->ArgNames({"M", "N", "K", "format", "gelu", "codes", "cols"})
    ->Args({4608, 9216, 3072, kBf16, 0, 0, 0})
    ->Args({4608, 9216, 3072, kFp8, 0, 0, 0})
    ->Args({4608, 9216, 3072, kFp8Shards, 0, 0, 0})
    ->Args({4608, 12288, 3072, kBf16, 1, 0, 0})
    ->Args({4608, 12288, 3072, kBf16, 1, 0, 15360})
    ->Args({4608, 12288, 3072, kFp8, 0, 0, 0})
    ->Args({4608, 12288, 3072, kFp8, 1, 0, 0})
    ->Args({4608, 12288, 3072, kFp8, 1, 1, 0})
    ->Args({4608, 12288, 3072, kFp8, 1, 1, 15360})
    ->Args({4608, 3072, 15360, kBf16, 0, 0, 0})
    ->Args({4608, 3072, 15360, kFp8, 0, 0, 0})
    ->Args({4096, 3072, 12288, kFp8, 0, 0, 0})
    ->Args({512, 12288, 3072, kFp8, 1, 1, 0});

void attention(benchmark::State& state) {
  const Tensor qkv = random({1, kTokens, 3 * kWidth});
  const auto part = [&](std::int64_t i) {
    return qkv.slice(2, i * kWidth, (i + 1) * kWidth).unflatten(2, kHeads, kWidth / kHeads);
  };
  const ops::AttentionOperands in{part(0), part(1), part(2)};
  const std::int64_t columns = state.range(0);
  const Tensor all = ops::empty_like(qkv, {1, kTokens, columns});
  const ops::AttentionOptions options{.scale = 1 / std::sqrt(128.0F),
                                      .out = {.tensor = all.slice(2, 0, kWidth)}};
  time_calls(state, [&] { ops::attention(in, options); });
  report_flops(state, 4.0 * static_cast<double>(kTokens * kTokens * kWidth));
}
BENCHMARK(attention)->UseManualTime()->Unit(benchmark::kMicrosecond)->Arg(kWidth)->Arg(5 * kWidth);

double relative_error(const Tensor& actual, const Tensor& expected) {
  const Tensor a = backend().download(ops::cast(actual, DType::kF32));
  const Tensor e = backend().download(ops::cast(expected, DType::kF32));
  double errors = 0;
  double squares = 0;
  for (std::int64_t i = 0; i < e.elements(); ++i) {
    errors += std::pow(a.data<float>()[i] - e.data<float>()[i], 2);
    squares += std::pow(e.data<float>()[i], 2);
  }
  return std::sqrt(errors / squares);
}

/// Of E4M3 codes, as many tokens and heads as the arguments say, and its error against that of
/// bf16; blocks: our own kernel, else cuDNN's.
void attention_of_codes(benchmark::State& state) {
  const std::int64_t tokens = state.range(0);
  const std::int64_t heads = state.range(1);
  const ops::Rope rope{random({tokens, 64}, DType::kF32), random({tokens, 64}, DType::kF32)};
  const ops::PackedQkv packed{random({1, tokens, 3 * heads * 128}), random({128}), random({128})};
  ops::AttentionOperands in =
      ops::norm_rope_heads({&packed, 1}, rope, heads, 1e-6F, ops::AttentionPrecision::kE4m3);
  const ops::AttentionOptions options{.scale = 1 / std::sqrt(128.0F)};
  const ops::AttentionOperands activations = ops::norm_rope_heads({&packed, 1}, rope, heads, 1e-6F);
  const Tensor expected = ops::attention(activations, options);
  if (state.range(2) == 0) {
    const cudaStream_t stream = stream_of(backend());
    const Tensor values = ops::contiguous(activations.v);
    const Tensor largest = backend().upload(Tensor::host({1}, DType::kF32), DType::kF32);
    in.v = Tensor::empty(in.q.shape(), DType::kF8E4M3, backend());
    in.v_scale = Tensor::empty({kScaleElements}, DType::kF32, backend());
    float* const scale = in.v_scale.data<float>();
    const auto rows = [&](const Tensor& t) { return row_view(t.reshape({tokens, heads * 128})); };
    launch_largest_magnitude(rows(values), DType::kBF16, largest.data<float>(), stream);
    launch_e4m3_scales(largest.data<float>(), scale, scale + kReciprocalElement, stream);
    launch_quantize_e4m3({.x = rows(values),
                          .codes = rows(in.v),
                          .dtype = DType::kBF16,
                          .device_reciprocal = scale + kReciprocalElement},
                         stream);
  }
  state.counters["error"] = relative_error(ops::attention(in, options), expected);
  const Tensor y = Tensor::empty({1, tokens, heads * 128}, DType::kF8E4M3, backend());
  ops::AttentionOptions codes = options;
  codes.out = {.tensor = y, .e4m3_scale = 0.01F};
  time_calls(state, [&] { ops::attention(in, codes); });
  report_flops(state, 4.0 * static_cast<double>(tokens * tokens * heads * 128));
}
BENCHMARK(attention_of_codes)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->ArgNames({"tokens", "heads", "blocks"})
    ->ArgsProduct({{1024, 4608}, {24}, {0, 1}})
    ->ArgsProduct({{4608}, {48}, {0, 1}})
    ->ArgsProduct({{32760}, {40}, {0, 1}});

/// Of an autoencoder's middle block: one head over all pixels, wider than cuDNN's kernels take.
void attention_of_pixels(benchmark::State& state) {
  const std::int64_t pixels = state.range(0);
  const std::int64_t channels = state.range(1);
  const Tensor heads = random({1, pixels, 1, channels});
  const ops::AttentionOptions options{.scale = 1 / std::sqrt(static_cast<float>(channels))};
  time_calls(state, [&] { ops::attention({heads, heads, heads}, options); });
  report_flops(state, 4.0 * static_cast<double>(pixels * pixels * channels));
}
BENCHMARK(attention_of_pixels)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->ArgNames({"pixels", "channels"})
    ->Args({4096, 512})
    ->Args({16384, 512})
    ->Args({6240, 384});

void layer_norm_modulate(benchmark::State& state) {
  const Tensor x = random({1, kTokens, kWidth});
  const Tensor shift = random({1, kWidth});
  const bool codes = state.range(0) != 0;
  ops::Output out;
  if (codes) out.e4m3_scale = 0.01F;
  time_calls(state, [&] { ops::layer_norm_modulate(x, shift, shift, 1e-6F, out); });
  report_bytes(state, static_cast<double>(kTokens * kWidth * (codes ? 3 : 4)));
}
BENCHMARK(layer_norm_modulate)->UseManualTime()->Unit(benchmark::kMicrosecond)->Arg(0)->Arg(1);

/// Between two blocks of a transformer: residual + gate * product, its norm and the norm's codes.
/// The product has one column of weights, so that next to nothing else is timed. Args: tokens,
/// width, whether gate, shift and scale are float32.
void gated_residual_norm(benchmark::State& state) {
  const std::int64_t tokens = state.range(0);
  const std::int64_t width = state.range(1);
  const DType dtype = state.range(2) != 0 ? DType::kF32 : DType::kBF16;
  const auto weights = make_linear(width, 8, kBf16);
  const Tensor x = random({1, tokens, 8});
  const Tensor residual = random({1, tokens, width});
  const Tensor vectors = random({1, 3 * width}, dtype);
  const ops::LinearEpilogue epilogue{.gate = vectors.slice(1, 0, width), .residual = residual};
  const ops::ModulatedNorm norm{.shift = vectors.slice(1, width, 2 * width),
                                .scale = vectors.slice(1, 2 * width, 3 * width),
                                .eps = 1e-6F,
                                .e4m3_scale = 0.01F};
  time_calls(state, [&] { ops::linear_norm(x, *weights, epilogue, norm); });
  // Product written; product and residual read, sum and codes written.
  report_bytes(state, static_cast<double>(tokens * width * (2 + 7)));
}
BENCHMARK(gated_residual_norm)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->ArgNames({"tokens", "width", "f32"})
    ->Args({4608, 3072, 0})
    ->Args({4608, 6144, 0})
    ->Args({32760, 5120, 1});

void norm_rope(benchmark::State& state) {
  const ops::PackedQkv stream{random({1, kTokens, 3 * kWidth}), random({128}), random({128})};
  const ops::Rope rope{random({kTokens, 64}, DType::kF32), random({kTokens, 64}, DType::kF32)};
  time_calls(state, [&] { ops::norm_rope_heads({&stream, 1}, rope, kHeads, 1e-6F); });
  report_bytes(state, static_cast<double>(kTokens * kWidth * 8));  // q and k, read and written
}
BENCHMARK(norm_rope)->UseManualTime()->Unit(benchmark::kMicrosecond);

void group_norm_silu(benchmark::State& state) {
  const std::int64_t side = state.range(0);
  const std::int64_t channels = state.range(1);
  const Tensor x = random({1, side, side, channels});
  const Tensor weight = random({channels});
  time_calls(state, [&] { ops::group_norm(x, 32, weight, weight, 1e-6F, ops::Activation::kSilu); });
  report_bytes(state, static_cast<double>(side * side * channels * 6));  // read twice, written
}
BENCHMARK(group_norm_silu)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({128, 512})
    ->Args({256, 512})
    ->Args({512, 256})
    ->Args({1024, 128});

void conv3x3(benchmark::State& state) {
  const std::int64_t side = state.range(0);
  const std::int64_t in = state.range(1);
  const std::int64_t out = state.range(2);
  const auto weights =
      backend().prepare_conv2d({.name = "bench",
                                .weight = random_host({out, in, 3, 3}, DType::kBF16, 0.02F),
                                .bias = random_host({out}, DType::kBF16, 0.02F),
                                .padding = {1, 1, 1, 1}},
                               DType::kBF16);
  const Tensor x = random({1, side, side, in});
  const Tensor residual = random({1, side, side, out});
  const bool add = state.range(3) != 0;
  time_calls(state, [&] { ops::conv2d(x, *weights, add ? residual : Tensor()); });
  report_flops(state, 2.0 * 9 * static_cast<double>(side * side * in * out));
}
BENCHMARK(conv3x3)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->ArgNames({"side", "in", "out", "residual"})
    ->Args({128, 512, 512, 0})
    ->Args({256, 512, 512, 0})
    ->Args({256, 512, 512, 1})
    ->Args({512, 256, 256, 1})
    ->Args({512, 512, 512, 0})
    ->Args({1024, 256, 256, 0})
    ->Args({1024, 128, 128, 0})
    ->Args({1024, 128, 128, 1})
    ->Args({1024, 128, 3, 0});

/// A causal convolution of the Wan autoencoder, two frames of history before `frames`; where the
/// backend wants room between the pixels, filling it with zeros is timed too.
void conv3x3x3(benchmark::State& state) {
  const std::int64_t frames = state.range(0);
  const std::int64_t h = state.range(1);
  const std::int64_t w = state.range(2);
  const std::int64_t channels = state.range(3);
  ops::Conv3dWeights stored;
  stored.name = "bench";
  stored.weight = random_host({channels, channels, 3, 3, 3}, DType::kBF16, 0.02F);
  stored.bias = random_host({channels}, DType::kBF16, 0.02F);
  stored.padding = {1, 1, 1, 1};
  const auto weights = backend().prepare_conv3d(stored, DType::kBF16);
  const std::int64_t row = backend().conv3d_row_channels(channels, DType::kBF16);
  const Tensor x = random({1, frames + 2, h, w, row});
  const Tensor residual = random({1, frames, h, w, channels});
  const bool add = state.range(4) != 0;
  time_calls(state, [&] { ops::conv3d(x, *weights, add ? residual : Tensor()); });
  report_flops(state, 2.0 * 27 * static_cast<double>(frames * h * w * channels * channels));
}
BENCHMARK(conv3x3x3)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->ArgNames({"frames", "h", "w", "channels", "residual"})
    ->Args({1, 60, 104, 384, 0})
    ->Args({2, 120, 208, 384, 0})
    ->Args({2, 120, 208, 384, 1})
    ->Args({4, 240, 416, 192, 0})
    ->Args({4, 240, 416, 192, 1})
    ->Args({4, 480, 832, 96, 0})
    ->Args({4, 480, 832, 96, 1})
    ->Args({8, 480, 832, 96, 1});

/// The same product as one over images, as which a video is convolved where cuDNN has no kernel for
/// it; without the copy that makes frames channels.
void conv3x3_of_three_frames(benchmark::State& state) {
  const std::int64_t frames = state.range(0);
  const std::int64_t h = state.range(1);
  const std::int64_t w = state.range(2);
  const std::int64_t channels = state.range(3);
  const auto weights = backend().prepare_conv2d(
      {.name = "bench",
       .weight = random_host({channels, 3 * channels, 3, 3}, DType::kBF16, 0.02F),
       .bias = random_host({channels}, DType::kBF16, 0.02F),
       .padding = {1, 1, 1, 1}},
      DType::kBF16);
  const Tensor x = random({frames, h, w, 3 * channels});
  const Tensor residual = random({frames, h, w, channels});
  time_calls(state, [&] { ops::conv2d(x, *weights, residual); });
  report_flops(state, 2.0 * 27 * static_cast<double>(frames * h * w * channels * channels));
}
BENCHMARK(conv3x3_of_three_frames)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->ArgNames({"frames", "h", "w", "channels"})
    ->Args({2, 120, 208, 384})
    ->Args({4, 240, 416, 192})
    ->Args({4, 480, 832, 96});

void channel_norm_silu(benchmark::State& state) {
  const std::int64_t channels = state.range(3);
  const Tensor x = random({1, state.range(0), state.range(1), state.range(2), channels});
  const Tensor weight = random({channels});
  time_calls(state, [&] { ops::channel_norm(x, weight, ops::Activation::kSilu); });
  report_bytes(state, static_cast<double>(x.elements() * 4));  // read, written
}
BENCHMARK(channel_norm_silu)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->ArgNames({"frames", "h", "w", "channels"})
    ->Args({2, 120, 208, 384})
    ->Args({4, 240, 416, 192})
    ->Args({4, 480, 832, 96});

/// A convolution of an image twice as large as its input; the rate counts the products of the large
/// image. Not folded: the two kernels that it replaces.
void upsampled_conv3x3(benchmark::State& state) {
  const std::int64_t images = state.range(0);
  const std::int64_t h = state.range(1);
  const std::int64_t w = state.range(2);
  const std::int64_t in = state.range(3);
  const std::int64_t out = state.range(4);
  const bool folded = state.range(5) != 0;
  const auto weights =
      backend().prepare_conv2d({.name = "bench",
                                .weight = random_host({out, in, 3, 3}, DType::kBF16, 0.02F),
                                .bias = random_host({out}, DType::kBF16, 0.02F),
                                .padding = {1, 1, 1, 1},
                                .upsamples = folded},
                               DType::kBF16);
  const Tensor x = random({images, h, w, in});
  time_calls(state, [&] { ops::conv2d(folded ? x : ops::upsample_nearest2x(x), *weights); });
  report_flops(state, 2.0 * 9 * 4 * static_cast<double>(images * h * w * in * out));
}
BENCHMARK(upsampled_conv3x3)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->ArgNames({"images", "h", "w", "in", "out", "folded"})
    ->Args({1, 128, 128, 512, 512, 0})
    ->Args({1, 128, 128, 512, 512, 1})
    ->Args({1, 256, 256, 512, 512, 0})
    ->Args({1, 256, 256, 512, 512, 1})
    ->Args({1, 512, 512, 256, 256, 0})
    ->Args({1, 512, 512, 256, 256, 1})
    ->Args({4, 120, 208, 384, 192, 0})
    ->Args({4, 120, 208, 384, 192, 1})
    ->Args({4, 240, 416, 192, 96, 0})
    ->Args({4, 240, 416, 192, 96, 1});

void upsample(benchmark::State& state) {
  const Tensor x = random({1, state.range(0), state.range(0), state.range(1)});
  time_calls(state, [&] { ops::upsample_nearest2x(x); });
  report_bytes(state, static_cast<double>(x.elements() * 10));
}
BENCHMARK(upsample)->UseManualTime()->Unit(benchmark::kMicrosecond)->Args({512, 256});

}  // namespace
}  // namespace dither::cuda
