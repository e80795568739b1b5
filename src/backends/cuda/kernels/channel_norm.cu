#include <cmath>
#include <type_traits>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/channel_norm.h"
#include "backends/cuda/kernels/common.cuh"

namespace dither::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
/// Vectors of a row that a thread keeps in registers.
constexpr int kMaxHeld = 8;
constexpr float kLeastNorm = 1e-12F;

/// What a row with this sum of squares is multiplied by.
__device__ float factor_of(float squares, float root) {
  return root / fmaxf(sqrtf(squares), kLeastNorm);
}

template <typename T, int V>
__device__ void write(const ChannelNormArgs& args, float factor, std::int64_t row, std::int64_t col,
                      float (&v)[V]) {
  float weight[V];
  load(static_cast<const T*>(args.weight) + col, weight);
#pragma unroll
  for (int j = 0; j < V; ++j) v[j] = v[j] * factor * weight[j];
  apply_before_rounding<T>(args.activation, v);
  store(v, reinterpret_cast<T*>(args.y.data) + row * args.y.row_stride + col);
}

/// `lanes` neighbouring threads, a power of two up to a warp, per row.
template <typename T, int V, int kHeld>
__global__ void __launch_bounds__(kThreads) norm_held(ChannelNormArgs args, int lanes, float root) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / lanes) + threadIdx.x / lanes;
  // Threads past the last row stay for the sum, in which their warp's other rows take part.
  const std::int64_t cols = row < args.x.rows ? args.x.cols : 0;
  const T* const x = reinterpret_cast<const T*>(args.x.data) + row * args.x.row_stride;
  float held[kHeld][V];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const std::int64_t col = (static_cast<std::int64_t>(i) * lanes + lane) * V;
    if (col >= cols) continue;
    load(x + col, held[i]);
#pragma unroll
    for (int j = 0; j < V; ++j) squares += held[i][j] * held[i][j];
  }
  const float factor = factor_of(sum_lanes(squares, lanes), root);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const std::int64_t col = (static_cast<std::int64_t>(i) * lanes + lane) * V;
    if (col < cols) write<T, V>(args, factor, row, col, held[i]);
  }
}

/// A warp per row of any width and alignment, read twice.
template <typename T>
__global__ void __launch_bounds__(kThreads) norm_any(ChannelNormArgs args, float root) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= args.x.rows) return;
  const T* const x = reinterpret_cast<const T*>(args.x.data) + row * args.x.row_stride;
  float squares = 0;
  for (std::int64_t col = lane; col < args.x.cols; col += kWarp) {
    const float value = to_f32(x[col]);
    squares += value * value;
  }
  const float factor = factor_of(sum_lanes(squares, kWarp), root);
  for (std::int64_t col = lane; col < args.x.cols; col += kWarp) {
    float v[1] = {to_f32(x[col])};
    write<T, 1>(args, factor, row, col, v);
  }
}

/// Calls f(std::integral_constant<int, vectors per thread>).
template <typename F>
void with_held(std::int64_t held, const F& f) {
  if (held <= 1) return f(std::integral_constant<int, 1>());
  if (held <= 2) return f(std::integral_constant<int, 2>());
  if (held <= 4) return f(std::integral_constant<int, 4>());
  f(std::integral_constant<int, kMaxHeld>());
}

}  // namespace

void launch_channel_norm(const ChannelNormArgs& args, cudaStream_t stream) {
  if (args.x.rows == 0 || args.x.cols == 0) return;
  const float root = std::sqrt(static_cast<float>(args.x.cols));
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int V = kLanes<T>;
    const auto fits = [&](const RowView& view) {
      return vectors_fit(view.data, view.row_stride, view.cols, sizeof(T));
    };
    const std::int64_t vectors = args.x.cols / V;
    const bool aligned =
        fits(args.x) && fits(args.y) && vectors_fit(args.weight, 0, args.x.cols, sizeof(T));
    if (!aligned || vectors > kWarp * kMaxHeld) {
      norm_any<T><<<blocks_for(args.x.rows, kThreads / kWarp), kThreads, 0, stream>>>(args, root);
      return;
    }
    int lanes = 1;
    while (lanes < kWarp && lanes < vectors) lanes *= 2;
    with_held((vectors + lanes - 1) / lanes, [&](auto held) {
      norm_held<T, V, held.value>
          <<<blocks_for(args.x.rows, kThreads / lanes), kThreads, 0, stream>>>(args, lanes, root);
    });
  });
  check_launch("launch channel_norm");
}

}  // namespace dither::cuda
