#include <algorithm>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/float8.cuh"
#include "backends/cuda/kernels/quantize.h"

namespace dither::cuda {
namespace {

constexpr int kThreads = 128;

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) quantize(QuantizeArgs args) {
  const std::int64_t row = blockIdx.x;
  const T* const x = reinterpret_cast<const T*>(args.x.data) + row * args.x.row_stride;
  std::uint8_t* const codes =
      reinterpret_cast<std::uint8_t*>(args.codes.data) + row * args.codes.row_stride;
  const float reciprocal =
      args.device_reciprocal != nullptr ? *args.device_reciprocal : args.reciprocal;
  constexpr int kBatch = V == 1 ? 1 : 4;  // loads in flight before the first store
  constexpr std::int64_t kStep = static_cast<std::int64_t>(kThreads) * V;
  for (std::int64_t first = threadIdx.x * V; first < args.x.cols; first += kBatch * kStep) {
    float v[kBatch][V];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i * kStep < args.x.cols) load(x + first + i * kStep, v[i]);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i * kStep < args.x.cols) {
        store_codes(v[i], reciprocal, codes + first + i * kStep);
      }
    }
  }
}

/// V codes from `from` on, times `scale`.
template <typename T, int V>
__device__ inline void expand_vector(const std::uint8_t* from, float scale, T* to) {
  alignas(8) std::uint8_t codes[V];
  if constexpr (V == 8) {
    *reinterpret_cast<uint2*>(codes) = *reinterpret_cast<const uint2*>(from);
  } else {
    for (int j = 0; j < V; ++j) codes[j] = from[j];
  }
  float v[V];
#pragma unroll
  for (int j = 0; j < V; ++j) v[j] = e4m3_to_f32(codes[j]) * scale;
  store(v, to);
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) expand(ExpandArgs args) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads * V;
  T* const values = static_cast<T*>(args.values);
  const float scale = args.device_scale != nullptr ? *args.device_scale : args.scale;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
       i < args.count; i += step) {
    expand_vector<T, V>(args.codes + i, scale, values + i);
  }
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) expand_rows(ExpandRowsArgs args) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * args.cols;
  T* const values = static_cast<T*>(args.values);
  const float scale = args.row_scales[blockIdx.x];
#pragma unroll 4
  for (std::int64_t i = threadIdx.x * V; i < args.cols; i += kThreads * V) {
    expand_vector<T, V>(args.codes + first + i, scale, values + first + i);
  }
}

/// Vectors of V elements begin at multiples of V bytes of codes and of 16 bytes of values.
template <int V>
bool vectors_begin(const std::uint8_t* codes, const void* values, std::int64_t length) {
  return length % V == 0 && reinterpret_cast<std::uintptr_t>(codes) % V == 0 &&
         reinterpret_cast<std::uintptr_t>(values) % 16 == 0;
}

}  // namespace

void launch_quantize_e4m3(const QuantizeArgs& args, cudaStream_t stream) {
  if (args.x.rows == 0 || args.x.cols == 0) return;
  const auto rows = static_cast<unsigned>(args.x.rows);
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int V = kLanes<T>;
    const bool aligned = reinterpret_cast<std::uintptr_t>(args.codes.data) % V == 0 &&
                         args.codes.row_stride % V == 0;
    if (aligned && vectors_fit(args.x.data, args.x.row_stride, args.x.cols, sizeof(T))) {
      quantize<T, V><<<rows, kThreads, 0, stream>>>(args);
    } else {
      quantize<T, 1><<<rows, kThreads, 0, stream>>>(args);
    }
  });
  check_launch("launch quantize_e4m3");
}

void launch_expand_e4m3(const ExpandArgs& args, cudaStream_t stream) {
  if (args.count == 0) return;
  const unsigned blocks = std::min(blocks_for(args.count, kThreads), 132U * 64U);
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int V = kLanes<T>;
    if (vectors_begin<V>(args.codes, args.values, args.count)) {
      expand<T, V><<<blocks, kThreads, 0, stream>>>(args);
    } else {
      expand<T, 1><<<blocks, kThreads, 0, stream>>>(args);
    }
  });
  check_launch("launch expand_e4m3");
}

void launch_expand_e4m3_rows(const ExpandRowsArgs& args, cudaStream_t stream) {
  if (args.rows == 0 || args.cols == 0) return;
  const auto rows = static_cast<unsigned>(args.rows);
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int V = kLanes<T>;
    if (vectors_begin<V>(args.codes, args.values, args.cols)) {
      expand_rows<T, V><<<rows, kThreads, 0, stream>>>(args);
    } else {
      expand_rows<T, 1><<<rows, kThreads, 0, stream>>>(args);
    }
  });
  check_launch("launch expand_e4m3_rows");
}

}  // namespace dither::cuda
