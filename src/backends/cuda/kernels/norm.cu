#include <algorithm>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/norm.h"
#include "backends/cuda/kernels/norm_row.cuh"

namespace dither::cuda {
namespace {

constexpr int kThreads = 128;

template <int V, typename T>
__device__ void modulate_from_memory(const NormArgs& args, std::int64_t sample, std::int64_t col,
                                     float (&v)[V]) {
  if (args.scale == nullptr) return;
  const std::int64_t offset = sample * args.modulation_stride + col;
  float scale[V];
  float shift[V] = {};
  load_vector<V, T>(args.scale, args.scale_dtype, offset, scale);
  if (args.shift != nullptr) load_vector<V, T>(args.shift, args.scale_dtype, offset, shift);
  modulate(args.scale_offset, scale, shift, v);
}

template <int V, typename T>
__device__ void gated_sum(const GatedResidualArgs& args, std::int64_t row, std::int64_t sample,
                          std::int64_t col, float (&v)[V]) {
  load(reinterpret_cast<const T*>(args.x.data) + row * args.x.row_stride + col, v);
  gate_and_add(
      args,
      [&](float(&gate)[V]) {
        load_vector<V, T>(args.gate, args.gate_dtype, sample * args.gate_stride + col, gate);
      },
      [&](float(&residual)[V]) {
        load(reinterpret_cast<const T*>(args.residual.data) + row * args.residual.row_stride + col,
             residual);
      },
      v);
}

/// A block per row.
template <typename T, int V, typename Shape, bool kRms, bool kGated>
__global__ void __launch_bounds__(Shape::kThreads)
    norm_held(NormArgs args, GatedResidualArgs gated) {
  __shared__ float scratch[32];
  const std::int64_t row = blockIdx.x;
  const std::int64_t cols = args.y.cols;
  const std::int64_t sample = row / args.rows_per_sample;
  HeldRow<V, Shape> held;
  held.each(cols, [&](float(&v)[V], std::int64_t col, int) {
    if constexpr (kGated) {
      gated_sum<V, T>(gated, row, row / gated.rows_per_sample, col, v);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = rounded<T>(v[j]);
      store(v, reinterpret_cast<T*>(gated.y.data) + row * gated.y.row_stride + col);
    } else {
      load(reinterpret_cast<const T*>(args.x.data) + row * args.x.row_stride + col, v);
    }
  });
  const Statistics s = statistics_of<kRms>(held, cols, args.eps, scratch);
  held.each(cols, [&](float(&v)[V], std::int64_t col, int) {
    normalize(s, v);
    modulate_from_memory<V, T>(args, sample, col, v);
    write<V, T>(args, row, col, v);
  });
}

/// Rows of any width and alignment, read three times.
template <typename T, bool kRms>
__global__ void __launch_bounds__(kThreads) norm_any(NormArgs args) {
  __shared__ float scratch[32];
  const std::int64_t row = blockIdx.x;
  const std::int64_t cols = args.y.cols;
  const T* const x = reinterpret_cast<const T*>(args.x.data) + row * args.x.row_stride;
  const auto count = static_cast<float>(cols);
  Statistics s{0, 0};
  if constexpr (!kRms) {
    float sum = 0;
    for (std::int64_t col = threadIdx.x; col < cols; col += kThreads) sum += to_f32(x[col]);
    s.mean = sum_block(sum, scratch) / count;
  }
  float squares = 0;
  for (std::int64_t col = threadIdx.x; col < cols; col += kThreads) {
    const float d = to_f32(x[col]) - s.mean;
    squares += d * d;
  }
  s.factor = rsqrtf(sum_block(squares, scratch) / count + args.eps);
  for (std::int64_t col = threadIdx.x; col < cols; col += kThreads) {
    float v[1] = {to_f32(x[col])};
    normalize(s, v);
    modulate_from_memory<1, T>(args, row / args.rows_per_sample, col, v);
    write<1, T>(args, row, col, v);
  }
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) gated_residual(GatedResidualArgs args) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t sample = row / args.rows_per_sample;
  T* const y = reinterpret_cast<T*>(args.y.data) + row * args.y.row_stride;
  constexpr int kBatch = V == 1 ? 1 : 4;  // loads in flight before the first store
  for (std::int64_t first = threadIdx.x * V; first < args.x.cols;
       first += static_cast<std::int64_t>(kBatch) * kThreads * V) {
    float v[kBatch][V];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const std::int64_t col = first + static_cast<std::int64_t>(i) * kThreads * V;
      if (col < args.x.cols) gated_sum<V, T>(args, row, sample, col, v[i]);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const std::int64_t col = first + static_cast<std::int64_t>(i) * kThreads * V;
      if (col < args.x.cols) store(v[i], y + col);
    }
  }
}

bool fits(const RowView& view, std::int64_t bytes) {
  return view.data == nullptr || vectors_fit(view.data, view.row_stride, view.cols, bytes);
}

bool fits(const void* data, DType dtype, std::int64_t stride, std::int64_t cols) {
  return data == nullptr || vectors_fit(data, stride, cols, dtype_bits(dtype) / 8);
}

/// Codes are written 16 bytes of activations, so 8 or 4 bytes of codes, at a time.
bool result_fits(const NormArgs& args, std::int64_t bytes) {
  if (args.e4m3_reciprocal == 0) return fits(args.y, bytes);
  const std::int64_t lanes = 16 / bytes;
  return reinterpret_cast<std::uintptr_t>(args.y.data) % static_cast<std::uintptr_t>(lanes) == 0 &&
         args.y.row_stride % lanes == 0;
}

bool norm_fits(const NormArgs& args, std::int64_t bytes) {
  return result_fits(args, bytes) && args.y.cols * bytes % 16 == 0 &&
         fits(args.scale, args.scale_dtype, args.modulation_stride, args.y.cols) &&
         fits(args.shift, args.scale_dtype, args.modulation_stride, args.y.cols);
}

bool gated_fits(const GatedResidualArgs& args, std::int64_t bytes) {
  return fits(args.x, bytes) && fits(args.residual, bytes) && fits(args.y, bytes) &&
         fits(args.gate, args.gate_dtype, args.gate_stride, args.x.cols);
}

template <bool kRms>
void launch_norm(const NormArgs& args, cudaStream_t stream) {
  if (args.y.rows == 0 || args.y.cols == 0) return;
  const auto rows = static_cast<unsigned>(args.y.rows);
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int V = kLanes<T>;
    const std::int64_t vectors = args.y.cols / V;
    if (vectors <= kMaxRowVectors && norm_fits(args, sizeof(T)) && fits(args.x, sizeof(T))) {
      if (launch_norm_stream(args, nullptr, kRms, stream)) return;
      with_row_shape(vectors, [&](auto shape) {
        using Shape = decltype(shape);
        norm_held<T, V, Shape, kRms, false><<<rows, Shape::kThreads, 0, stream>>>(args, {});
      });
    } else {
      norm_any<T, kRms><<<rows, kThreads, 0, stream>>>(args);
    }
  });
  check_launch("launch a norm");
}

}  // namespace

void launch_layer_norm(const NormArgs& args, cudaStream_t stream) {
  launch_norm<false>(args, stream);
}

void launch_rms_norm(const NormArgs& args, cudaStream_t stream) { launch_norm<true>(args, stream); }

void launch_gated_residual(const GatedResidualArgs& args, cudaStream_t stream) {
  if (args.x.rows == 0 || args.x.cols == 0) return;
  const auto rows = static_cast<unsigned>(args.x.rows);
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    if (gated_fits(args, sizeof(T))) {
      gated_residual<T, kLanes<T>><<<rows, kThreads, 0, stream>>>(args);
    } else {
      gated_residual<T, 1><<<rows, kThreads, 0, stream>>>(args);
    }
  });
  check_launch("launch gated_residual");
}

void launch_gated_residual_norm(const GatedResidualArgs& args, const NormArgs& norm,
                                cudaStream_t stream) {
  if (args.x.rows == 0 || args.x.cols == 0) return;
  bool fused = false;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int V = kLanes<T>;
    const std::int64_t vectors = args.x.cols / V;
    fused = vectors <= kMaxRowVectors && norm_fits(norm, sizeof(T)) && gated_fits(args, sizeof(T));
    if (!fused || launch_norm_stream(norm, &args, false, stream)) return;
    with_row_shape(vectors, [&](auto shape) {
      using Shape = decltype(shape);
      norm_held<T, V, Shape, false, true>
          <<<static_cast<unsigned>(args.x.rows), Shape::kThreads, 0, stream>>>(norm, args);
    });
  });
  if (fused) return check_launch("launch gated_residual_norm");
  launch_gated_residual(args, stream);
  NormArgs second = norm;
  second.x = args.y;
  launch_layer_norm(second, stream);
}

}  // namespace dither::cuda
