#include <algorithm>
#include <type_traits>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/norm_row.cuh"
#include "backends/cuda/multiprocessors.h"

namespace dither::cuda {
namespace {

using T = Bf16;
constexpr int V = kLanes<T>;
/// A block's rows must repay what it takes to bring a sample's vectors into shared memory.
constexpr std::int64_t kLeastRows = 4;
/// Of narrower rows, gate, scale and shift are little beside the rows themselves.
constexpr std::int64_t kLeastVectors = 257;

/// A vector of a sample in shared memory, as float32 in planes of 4 columns: neighbouring threads
/// read neighbouring 16 bytes.
class Columns {
 public:
  __device__ Columns(float4* memory, std::int64_t cols)
      : memory_(memory), vectors_(static_cast<int>(cols / V)) {}

  __device__ void fill(const void* from, DType dtype, std::int64_t offset) {
    for (int i = static_cast<int>(threadIdx.x); i < vectors_; i += static_cast<int>(blockDim.x)) {
      float v[V] = {};
      if (from != nullptr) load_vector<V, T>(from, dtype, offset + std::int64_t{i} * V, v);
#pragma unroll
      for (int q = 0; q < V / 4; ++q) {
        memory_[q * vectors_ + i] = make_float4(v[4 * q], v[4 * q + 1], v[4 * q + 2], v[4 * q + 3]);
      }
    }
  }

  __device__ void get(int vector, float (&v)[V]) const {
#pragma unroll
    for (int q = 0; q < V / 4; ++q) {
      const float4 quad = memory_[q * vectors_ + vector];
      v[4 * q] = quad.x;
      v[4 * q + 1] = quad.y;
      v[4 * q + 2] = quad.z;
      v[4 * q + 3] = quad.w;
    }
  }

 private:
  float4* memory_;
  int vectors_;
};

/// A row as it lies in memory, on its way.
template <typename Shape>
struct Arriving {
  uint4 vectors[Shape::kHeld];

  __device__ void load(const RowView& view, std::int64_t row) {
    if (view.data == nullptr) return;
    const T* const from = reinterpret_cast<const T*>(view.data) + row * view.row_stride;
#pragma unroll
    for (int i = 0; i < Shape::kHeld; ++i) {
      const std::int64_t col = (static_cast<std::int64_t>(i) * Shape::kThreads + threadIdx.x) * V;
      if (col < view.cols) vectors[i] = *reinterpret_cast<const uint4*>(from + col);
    }
  }
};

/// A block takes rows_per_block rows one after the other: the next is read while this one is
/// summed, and gate, scale and shift are read from device memory once for each sample.
template <typename Shape, bool kRms, bool kGated>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kThreads == 256 ? 3 : 0)
    norm_stream(NormArgs args, GatedResidualArgs gated, std::int64_t rows_per_block) {
  extern __shared__ float4 memory[];
  __shared__ float scratch[32];
  const std::int64_t cols = args.y.cols;
  Columns scale(memory, cols);
  Columns shift(memory + cols / 4, cols);
  Columns gate(memory + cols / 2, cols);
  const std::int64_t first = blockIdx.x * rows_per_block;
  const std::int64_t last = min(first + rows_per_block, args.y.rows);
  std::int64_t sample_end = first;  // of the vectors in shared memory
  const RowView x = kGated ? gated.x : args.x;
  Arriving<Shape> next_x;
  Arriving<Shape> next_residual;
  next_x.load(x, first);
  if constexpr (kGated) next_residual.load(gated.residual, first);
  for (std::int64_t row = first; row < last; ++row) {
    if (row >= sample_end) {
      const std::int64_t sample = row / args.rows_per_sample;
      sample_end = (sample + 1) * args.rows_per_sample;
      __syncthreads();  // the sample before is still read
      scale.fill(args.scale, args.scale_dtype, sample * args.modulation_stride);
      shift.fill(args.shift, args.scale_dtype, sample * args.modulation_stride);
      if (kGated && gated.gate != nullptr) {
        gate.fill(gated.gate, gated.gate_dtype, sample * gated.gate_stride);
      }
      __syncthreads();
    }
    HeldRow<V, Shape> held;
    held.each(cols, [&](float(&v)[V], std::int64_t col, int i) {
      unpack<T>(next_x.vectors[i], v);
      if constexpr (!kGated) return;
      gate_and_add(
          gated, [&](float(&by)[V]) { gate.get(static_cast<int>(col / V), by); },
          [&](float(&plus)[V]) { unpack<T>(next_residual.vectors[i], plus); }, v);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = rounded<T>(v[j]);
      store(v, reinterpret_cast<T*>(gated.y.data) + row * gated.y.row_stride + col);
    });
    if (row + 1 < last) {
      next_x.load(x, row + 1);
      if constexpr (kGated) next_residual.load(gated.residual, row + 1);
    }
    const Statistics s = statistics_of<kRms>(held, cols, args.eps, scratch);
    held.each(cols, [&](float(&v)[V], std::int64_t col, int) {
      float by[V];
      float plus[V];
      scale.get(static_cast<int>(col / V), by);
      shift.get(static_cast<int>(col / V), plus);
      normalize(s, v);
      modulate(args.scale_offset, by, plus, v);
      write<V, T>(args, row, col, v);
    });
  }
}

template <typename Shape, bool kRms, bool kGated>
bool launch(const NormArgs& args, const GatedResidualArgs& gated, cudaStream_t stream) {
  const auto kernel = norm_stream<Shape, kRms, kGated>;
  const int vectors = kGated && gated.gate != nullptr ? 3 : 2;
  const auto shared = static_cast<std::size_t>(vectors * args.y.cols) * sizeof(float);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared)),
        "reserve shared memory for a norm");
  int resident = 0;  // blocks of a multiprocessor
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, Shape::kThreads, shared),
        "ask how many blocks of a norm fit");
  const std::int64_t blocks = std::int64_t{multiprocessors()} * resident;
  if (args.y.rows < blocks * kLeastRows) return false;
  const std::int64_t rows_per_block = (args.y.rows + blocks - 1) / blocks;
  kernel<<<blocks_for(args.y.rows, rows_per_block), Shape::kThreads, shared, stream>>>(
      args, gated, rows_per_block);
  return true;
}

}  // namespace

bool launch_norm_stream(const NormArgs& norm, const GatedResidualArgs* gated, bool rms,
                        cudaStream_t stream) {
  NormArgs args = norm;
  const bool gate = gated != nullptr && gated->gate != nullptr;
  if (args.dtype != DType::kBF16 || args.scale == nullptr) return false;
  // Vectors that all samples share need no second look.
  if (args.modulation_stride == 0 && (!gate || gated->gate_stride == 0)) {
    args.rows_per_sample = args.y.rows;
  } else if (gate && gated->rows_per_sample != args.rows_per_sample) {
    return false;
  }
  const std::int64_t vectors = args.y.cols / V;
  if (vectors < kLeastVectors) return false;
  bool launched = false;
  with_row_shape(vectors, [&](auto shape) {
    using Shape = decltype(shape);
    if constexpr (Shape::kThreads * Shape::kHeld >= kLeastVectors) {
      if (gated != nullptr) {
        launched = launch<Shape, false, true>(args, *gated, stream);
      } else if (rms) {
        launched = launch<Shape, true, false>(args, {}, stream);
      } else {
        launched = launch<Shape, false, false>(args, {}, stream);
      }
    }
  });
  return launched;
}

}  // namespace dither::cuda
