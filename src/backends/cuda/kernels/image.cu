#include <algorithm>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/image.h"

namespace dither::cuda {
namespace {

constexpr int kThreads = 256;

/// A block row per input line: blockIdx.y is sample * height + y.
template <typename Unit>
__global__ void __launch_bounds__(kThreads) upsample(UpsampleArgs args, std::int64_t pixel_units) {
  const std::int64_t line = blockIdx.y;
  const std::int64_t units = args.width * pixel_units;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= units) return;
  const Unit value = static_cast<const Unit*>(args.x)[line * units + i];
  const std::int64_t pixel = i / pixel_units;
  Unit* const to = static_cast<Unit*>(args.y) + line * 4 * units + i + pixel * pixel_units;
  to[0] = value;
  to[pixel_units] = value;
  to[2 * units] = value;
  to[2 * units + pixel_units] = value;
}

/// A block per 256 units of the cleared columns; strides count units.
template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    clear(Unit* to, std::int64_t rows, int units, std::int64_t stride) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kThreads;
  const std::int64_t row = first / units;  // the same for the block: the rest divides in 32 bits
  const int i = static_cast<int>(first - row * units) + static_cast<int>(threadIdx.x);
  const std::int64_t own = row + i / units;
  if (own < rows) to[own * stride + i % units] = Unit{};
}

template <typename Unit>
__global__ void __launch_bounds__(kThreads) gather(EmbeddingArgs args, std::int64_t units) {
  const std::int64_t row = blockIdx.x;
  const Unit* const from = static_cast<const Unit*>(args.table) + args.ids[row] * units;
  Unit* const to = static_cast<Unit*>(args.y) + row * units;
  for (std::int64_t i = threadIdx.x; i < units; i += kThreads) to[i] = from[i];
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) to_pixels(ToPixelsArgs args) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (first >= args.count) return;
  float x[V];
  load(static_cast<const T*>(args.x) + first, x);
  std::uint8_t levels[V];
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const float unit = x[j] * 0.5F + 0.5F;
    const float above = unit > 0.0F ? unit : 0.0F;  // false for NaN
    levels[j] = static_cast<std::uint8_t>(__float2int_rn(fminf(above, 1.0F) * 255.0F));
  }
#pragma unroll
  for (int j = 0; j < V; ++j) args.y[first + j] = levels[j];
}

/// Calls f with a unit of copying and how many of them make up `bytes`.
template <typename F>
void with_unit(const void* a, const void* b, std::int64_t bytes, DType dtype, const F& f) {
  if (vectors_fit(a, 0, bytes, 1) && vectors_fit(b, 0, bytes, 1)) return f(uint4{}, bytes / 16);
  if (dtype == DType::kBF16) return f(std::uint16_t{}, bytes / 2);
  f(std::uint32_t{}, bytes / 4);
}

}  // namespace

void launch_upsample_nearest2x(const UpsampleArgs& args, cudaStream_t stream) {
  const std::int64_t lines = args.samples * args.height;
  if (lines * args.width * args.channels == 0) return;
  constexpr std::int64_t kMaxLines = 65535;  // of a grid's second dimension
  const std::int64_t pixel_bytes = args.channels * dtype_bits(args.dtype) / 8;
  for (std::int64_t first = 0; first < lines; first += kMaxLines) {
    UpsampleArgs piece = args;
    piece.x = static_cast<const std::byte*>(args.x) + first * args.width * pixel_bytes;
    piece.y = static_cast<std::byte*>(args.y) + first * args.width * pixel_bytes * 4;
    with_unit(args.x, args.y, pixel_bytes, args.dtype, [&](auto unit, std::int64_t units) {
      const dim3 grid(blocks_for(args.width * units, kThreads),
                      static_cast<unsigned>(std::min(kMaxLines, lines - first)));
      upsample<decltype(unit)><<<grid, kThreads, 0, stream>>>(piece, units);
    });
  }
  check_launch("launch upsample_nearest2x");
}

void launch_clear_columns(const ClearColumnsArgs& args, cudaStream_t stream) {
  const std::int64_t columns = args.rows.cols - args.first;
  if (columns == 0 || args.rows.rows == 0) return;
  const std::int64_t element = dtype_bits(args.dtype) / 8;
  std::byte* const to = args.rows.data + args.first * element;
  const auto launch = [&](auto unit) {
    using Unit = decltype(unit);
    const auto units_of = [&](std::int64_t elements) {
      return elements * element / static_cast<std::int64_t>(sizeof(Unit));
    };
    const std::int64_t units = units_of(columns);
    clear<<<blocks_for(args.rows.rows * units, kThreads), kThreads, 0, stream>>>(
        reinterpret_cast<Unit*>(to), args.rows.rows, static_cast<int>(units),
        units_of(args.rows.row_stride));
  };
  if (vectors_fit(to, args.rows.row_stride, columns, element)) {
    launch(uint4{});
  } else if (args.dtype == DType::kBF16) {
    launch(std::uint16_t{});
  } else {
    launch(std::uint32_t{});
  }
  check_launch("launch clear_columns");
}

void launch_to_pixels(const ToPixelsArgs& args, cudaStream_t stream) {
  if (args.count == 0) return;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int V = kLanes<T>;
    if (vectors_fit(args.x, 0, args.count, sizeof(T))) {
      to_pixels<T, V><<<blocks_for(args.count / V, kThreads), kThreads, 0, stream>>>(args);
    } else {
      to_pixels<T, 1><<<blocks_for(args.count, kThreads), kThreads, 0, stream>>>(args);
    }
  });
  check_launch("launch to_pixels");
}

void launch_embedding(const EmbeddingArgs& args, cudaStream_t stream) {
  if (args.count == 0 || args.width == 0) return;
  const std::int64_t row_bytes = args.width * dtype_bits(args.dtype) / 8;
  with_unit(args.table, args.y, row_bytes, args.dtype, [&](auto unit, std::int64_t units) {
    gather<decltype(unit)><<<static_cast<unsigned>(args.count), kThreads, 0, stream>>>(args, units);
  });
  check_launch("launch embedding");
}

}  // namespace dither::cuda
