#pragma once

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/float8.cuh"
#include "backends/cuda/kernels/norm.h"

/// One row of a norm in the registers of a block, which norm.cu takes a block for and
/// norm_stream.cu one of many. Both compute the same bits.
namespace dither::cuda {

/// How a row lies in the registers of a block: kHeld vectors in each of kThreads threads.
template <int kThreadsOfRow, int kHeldByThread>
struct RowShape {
  static constexpr int kThreads = kThreadsOfRow;
  static constexpr int kHeld = kHeldByThread;
};

/// Vectors of a row that with_row_shape() has a shape for.
inline constexpr std::int64_t kMaxRowVectors = 1024;

/// Calls f(RowShape) for a row of this many vectors. Wide rows have more threads, not only more
/// registers: sums of a row wait for one another, and more warps hide that.
template <typename F>
void with_row_shape(std::int64_t vectors, const F& f) {
  if (vectors <= 128) return f(RowShape<128, 1>());
  if (vectors <= 256) return f(RowShape<128, 2>());
  if (vectors <= 384) return f(RowShape<128, 3>());
  if (vectors <= 512) return f(RowShape<256, 2>());
  if (vectors <= 768) return f(RowShape<256, 3>());
  return f(RowShape<256, 4>());
}

/// Vector i of a thread is column (i * kThreads + threadIdx.x) * V.
template <int V, typename Shape>
struct HeldRow {
  static constexpr int kHeld = Shape::kHeld;
  float values[kHeld][V];

  /// f(values, column, i) for the vectors that a row of `cols` has.
  template <typename F>
  __device__ void each(std::int64_t cols, const F& f) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const std::int64_t col = (static_cast<std::int64_t>(i) * Shape::kThreads + threadIdx.x) * V;
      if (col < cols) f(values[i], col, i);
    }
  }
};

struct Statistics {
  float mean;
  float factor;
};

template <bool kRms, int V, typename Shape>
__device__ Statistics statistics_of(HeldRow<V, Shape>& row, std::int64_t cols, float eps,
                                    float* scratch) {
  const auto count = static_cast<float>(cols);
  float mean = 0;
  if constexpr (!kRms) {
    float sum = 0;
    row.each(cols, [&](float(&v)[V], std::int64_t, int) {
#pragma unroll
      for (int j = 0; j < V; ++j) sum += v[j];
    });
    mean = sum_block(sum, scratch) / count;
  }
  float squares = 0;
  row.each(cols, [&](float(&v)[V], std::int64_t, int) {
#pragma unroll
    for (int j = 0; j < V; ++j) squares += (v[j] - mean) * (v[j] - mean);
  });
  return {mean, rsqrtf(sum_block(squares, scratch) / count + eps)};
}

/// V columns of what multiplies rows of T per sample, T or float32.
template <int V, typename T>
__device__ void load_vector(const void* from, DType dtype, std::int64_t offset,
                            float (&values)[V]) {
  if (dtype == DType::kF32) {
    load(static_cast<const float*>(from) + offset, values);
  } else {
    load(static_cast<const T*>(from) + offset, values);
  }
}

/// (x - mean) * factor, for V columns.
template <int V>
__device__ void normalize(const Statistics& s, float (&v)[V]) {
#pragma unroll
  for (int j = 0; j < V; ++j) v[j] = (v[j] - s.mean) * s.factor;
}

/// y * (offset + scale) + shift, for V columns.
template <int V>
__device__ void modulate(float offset, const float (&scale)[V], const float (&shift)[V],
                         float (&v)[V]) {
#pragma unroll
  for (int j = 0; j < V; ++j) v[j] = v[j] * (offset + scale[j]) + shift[j];
}

template <int V, typename T>
__device__ void write(const NormArgs& args, std::int64_t row, std::int64_t col, float (&v)[V]) {
  const std::int64_t offset = row * args.y.row_stride + col;
  if (args.e4m3_reciprocal == 0) {
    store(v, reinterpret_cast<T*>(args.y.data) + offset);
    return;
  }
#pragma unroll
  for (int j = 0; j < V; ++j) v[j] = rounded<T>(v[j]);
  store_codes(v, args.e4m3_reciprocal, reinterpret_cast<std::uint8_t*>(args.y.data) + offset);
}

template <int V>
__device__ void activate(ops::Activation activation, float (&v)[V]) {
  if (activation == ops::Activation::kNone) return;
#pragma unroll
  for (int j = 0; j < V; ++j) v[j] = apply(activation, v[j]);
}

/// residual + gate * activation(v), where args have them; load_gate and load_residual fill V
/// columns.
template <int V, typename LoadGate, typename LoadResidual>
__device__ void gate_and_add(const GatedResidualArgs& args, const LoadGate& load_gate,
                             const LoadResidual& load_residual, float (&v)[V]) {
  activate(args.activation, v);
  if (args.gate != nullptr) {
    float gate[V];
    load_gate(gate);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] *= gate[j];
  }
  if (args.residual.data != nullptr) {
    float residual[V];
    load_residual(residual);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] += residual[j];
  }
}

/// norm_stream.cu's: false where the rows are too few, too narrow or of another type, and nothing
/// was launched. `gated` null: the norm of norm.x alone. All data is aligned to 16 bytes.
bool launch_norm_stream(const NormArgs& norm, const GatedResidualArgs* gated, bool rms,
                        cudaStream_t stream);

}  // namespace dither::cuda
