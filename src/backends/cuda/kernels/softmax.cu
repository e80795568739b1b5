#include <algorithm>
#include <cmath>
#include <type_traits>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/softmax.h"

namespace dither::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeldThreads = 512;
/// Scores that a thread of the latter keeps in registers.
constexpr std::int64_t kMaxHeld = 32;

/// e^x, x <= 0. Of a result that is rounded to bf16 the fast instruction's error, below 2^-16 of it
/// wherever the result is above 2^-100, is not seen.
template <typename T>
__device__ float exponential(float x) {
  if constexpr (sizeof(T) == 4) {
    return expf(x);
  } else {
    return __expf(x);
  }
}

/// A block per row, which it keeps in registers: kHeld vectors of V scores a thread.
template <typename T, int kHeld>
__global__ void __launch_bounds__(kHeldThreads) softmax_held(SoftmaxArgs args) {
  constexpr int V = kLanes<T>;
  __shared__ float scratch[32];
  float* const row = args.scores + static_cast<std::int64_t>(blockIdx.x) * args.keys;
  T* const result = reinterpret_cast<T*>(row);
  const int keys = static_cast<int>(args.keys);
  float held[kHeld][V];
  float largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int key = (i * kHeldThreads + static_cast<int>(threadIdx.x)) * V;
    if (key < keys) load(row + key, held[i]);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      held[i][j] = key < keys ? held[i][j] * args.scale : -INFINITY;
      largest = fmaxf(largest, held[i][j]);
    }
  }
  largest = max_block(largest, scratch);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      held[i][j] = exponential<T>(held[i][j] - largest);
      sum += held[i][j];
    }
  }
  // All of the row was read before anything is written over it: the sums wait for every thread.
  const float factor = 1.0F / sum_block(sum, scratch);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int key = (i * kHeldThreads + static_cast<int>(threadIdx.x)) * V;
    if (key >= keys) continue;
#pragma unroll
    for (int j = 0; j < V; ++j) held[i][j] *= factor;
    store(held[i], result + key);
  }
}

/// A block per row of any length, with bias and mask.
template <typename T>
__global__ void __launch_bounds__(kThreads) softmax_any(SoftmaxArgs args) {
  __shared__ float scratch[32];
  const std::int64_t row = blockIdx.x;
  const std::int64_t head = row / args.queries;
  const std::int64_t query = row % args.queries;
  const float* const scores = args.scores + row * args.keys;
  T* const result = reinterpret_cast<T*>(args.scores + row * args.keys);
  const float* const bias = args.bias == nullptr ? nullptr
                                                 : args.bias + head * args.bias_head_stride +
                                                       query * args.bias_row_stride;
  const std::int64_t visible =
      args.causal ? min(args.keys, query + args.query_offset + 1) : args.keys;
  const auto score = [&](std::int64_t key) {
    const float s = scores[key] * args.scale;
    return bias == nullptr ? s : s + bias[key];
  };

  float largest = -INFINITY;
  for (std::int64_t key = threadIdx.x; key < visible; key += kThreads) {
    largest = fmaxf(largest, score(key));
  }
  largest = max_block(largest, scratch);
  float sum = 0;
  for (std::int64_t key = threadIdx.x; key < visible; key += kThreads) {
    sum += expf(score(key) - largest);
  }
  const float factor = 1.0F / sum_block(sum, scratch);
  for (std::int64_t first = 0; first < args.keys; first += kThreads) {
    const std::int64_t key = first + threadIdx.x;
    const float p = key < visible ? expf(score(key) - largest) * factor : 0.0F;
    // Shorter elements come to lie on scores of this round, or of earlier ones.
    if constexpr (sizeof(T) < sizeof(float)) __syncthreads();
    if (key < args.keys) result[key] = from_f32<T>(p);
  }
}

/// Calls f(std::integral_constant<int, vectors per thread>).
template <int kMost, typename F>
void with_held(std::int64_t held, const F& f) {
  if constexpr (kMost > 1) {
    if (held <= kMost / 2) return with_held<kMost / 2>(held, f);
  }
  f(std::integral_constant<int, kMost>());
}

}  // namespace

void launch_softmax(const SoftmaxArgs& args, cudaStream_t stream) {
  const std::int64_t rows = args.heads * args.queries;
  if (rows == 0 || args.keys == 0) return;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr std::int64_t kPerRound = std::int64_t{kHeldThreads} * kLanes<T>;
    const auto blocks = static_cast<unsigned>(rows);
    const bool plain = args.bias == nullptr && !args.causal &&
                       vectors_fit(args.scores, args.keys, args.keys, sizeof(T)) &&
                       args.keys <= kHeldThreads * kMaxHeld;
    if (!plain) {
      softmax_any<T><<<blocks, kThreads, 0, stream>>>(args);
      return;
    }
    with_held<kMaxHeld / kLanes<T>>((args.keys + kPerRound - 1) / kPerRound, [&](auto held) {
      softmax_held<T, held.value><<<blocks, kHeldThreads, 0, stream>>>(args);
    });
  });
  check_launch("launch softmax");
}

}  // namespace dither::cuda
