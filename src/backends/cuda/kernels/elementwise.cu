#include <algorithm>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/elementwise.h"
#include "backends/cuda/kernels/float8.cuh"

namespace dither::cuda {
namespace {

constexpr int kThreads = 128;

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) activate(ActivateArgs args) {
  const std::int64_t row = blockIdx.x;
  const T* const x = reinterpret_cast<const T*>(args.x.data) + row * args.x.row_stride;
  const T* const b = args.b.data == nullptr
                         ? nullptr
                         : reinterpret_cast<const T*>(args.b.data) + row * args.b.row_stride;
  for (std::int64_t col = threadIdx.x * V; col < args.x.cols; col += kThreads * V) {
    float v[V];
    load(x + col, v);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = apply(args.activation, v[j]);
    if (b != nullptr) {
      float w[V];
      load(b + col, w);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] *= w[j];
    }
    const std::int64_t to = row * args.y.row_stride + col;
    if (args.e4m3_reciprocal == 0) {
      store(v, reinterpret_cast<T*>(args.y.data) + to);
      continue;
    }
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = rounded<T>(v[j]);
    store_codes(v, args.e4m3_reciprocal, reinterpret_cast<std::uint8_t*>(args.y.data) + to);
  }
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) axpby(AxpbyArgs args) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads * V;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
       i < args.count; i += step) {
    float v[V];
    load(static_cast<const T*>(args.a) + i, v);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = args.alpha * v[j];
    if (args.b != nullptr) {
      float w[V];
      load(static_cast<const T*>(args.b) + (args.period == args.count ? i : i % args.period), w);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] += args.beta * w[j];
    }
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] += args.offset;
    store(v, static_cast<T*>(args.y) + i);
  }
}

bool fits(const RowView& view, std::int64_t bytes) {
  return view.data == nullptr || vectors_fit(view.data, view.row_stride, view.cols, bytes);
}

/// Codes are written 16 bytes of activations, so 8 or 4 bytes of codes, at a time.
bool result_fits(const ActivateArgs& args, std::int64_t bytes) {
  if (args.e4m3_reciprocal == 0) return fits(args.y, bytes);
  const std::int64_t lanes = 16 / bytes;
  return reinterpret_cast<std::uintptr_t>(args.y.data) % static_cast<std::uintptr_t>(lanes) == 0 &&
         args.y.row_stride % lanes == 0;
}

}  // namespace

void launch_activate(const ActivateArgs& args, cudaStream_t stream) {
  if (args.x.rows == 0 || args.x.cols == 0) return;
  const auto rows = static_cast<unsigned>(args.x.rows);
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    if (fits(args.x, sizeof(T)) && fits(args.b, sizeof(T)) && result_fits(args, sizeof(T))) {
      activate<T, kLanes<T>><<<rows, kThreads, 0, stream>>>(args);
    } else {
      activate<T, 1><<<rows, kThreads, 0, stream>>>(args);
    }
  });
  check_launch("launch activate");
}

void launch_axpby(const AxpbyArgs& args, cudaStream_t stream) {
  if (args.count == 0) return;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    const auto flat = [](const void* data, std::int64_t count) {
      return data == nullptr || vectors_fit(data, 0, count, sizeof(T));
    };
    const bool vectors =
        flat(args.a, args.count) && flat(args.y, args.count) && flat(args.b, args.period);
    const int per_thread = vectors ? kLanes<T> : 1;
    const unsigned blocks = std::min(
        blocks_for(args.count, static_cast<std::int64_t>(kThreads) * per_thread), 1U << 20);
    if (vectors) {
      axpby<T, kLanes<T>><<<blocks, kThreads, 0, stream>>>(args);
    } else {
      axpby<T, 1><<<blocks, kThreads, 0, stream>>>(args);
    }
  });
  check_launch("launch axpby");
}

}  // namespace dither::cuda
