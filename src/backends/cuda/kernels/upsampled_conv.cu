#include <algorithm>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/upsampled_conv.h"

namespace dither::cuda {
namespace {

constexpr int kThreads = 256;

/// The rows (or columns) [first, end) of a 3 x 3 kernel that read one pixel of the small image.
struct Taps {
  int first;
  int end;
};
__device__ Taps taps_of(int phase, int tap) {
  const int border = 1 + phase;
  return tap == 0 ? Taps{0, border} : Taps{border, 3};
}

/// A thread per element of [4 c_out, 2, 2, c_in].
template <typename T>
__global__ void __launch_bounds__(kThreads) fold(FoldUpsamplingArgs args) {
  const std::int64_t rest = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (rest >= 16 * args.c_out * args.c_in) return;
  const std::int64_t c = rest % args.c_in;
  const std::int64_t to = rest / args.c_in;
  const int tap = static_cast<int>(to % 4);
  const std::int64_t o = to / 4 % args.c_out;
  const int phase = static_cast<int>(to / 4 / args.c_out);
  const float* const weight = args.weight + (o * args.c_in + c) * 9;
  const Taps rows = taps_of(phase / 2, tap / 2);
  const Taps columns = taps_of(phase % 2, tap % 2);
  float sum = 0;
  for (int y = rows.first; y < rows.end; ++y) {
    for (int x = columns.first; x < columns.end; ++x) sum += weight[y * 3 + x];
  }
  static_cast<T*>(args.y)[to * args.row + c] = from_f32<T>(sum);
}

/// A row of blocks per line of y, a thread per unit of it; `pixel` and `row` count units. Lines
/// from `first_line` on, counted through all samples.
template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    join(JoinPhasesArgs args, int pixel, std::int64_t row, std::int64_t first_line) {
  const int width = static_cast<int>(args.width);
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int x = i / pixel;
  if (x >= 2 * width) return;
  const std::int64_t line = first_line + blockIdx.y;
  const std::int64_t sample = line / (2 * args.height);
  const std::int64_t y = line - sample * 2 * args.height;
  const std::int64_t a = y % 2;
  const int b = x % 2;
  const std::int64_t from_line = sample * (args.height + 1) + y / 2 + a;
  const std::int64_t from_pixel = from_line * (width + 1) + x / 2 + b;
  static_cast<Unit*>(args.y)[line * 2 * width * pixel + i] = static_cast<const Unit*>(
      args.phases)[from_pixel * row + (2 * a + b) * pixel + (i - x * pixel)];
}

template <typename Unit>
void join_units(const JoinPhasesArgs& args, cudaStream_t stream) {
  constexpr std::int64_t kMaxLines = 65535;  // of a grid's second dimension
  const auto units_of = [&](std::int64_t elements) {
    return elements * dtype_bits(args.dtype) / 8 / static_cast<std::int64_t>(sizeof(Unit));
  };
  const std::int64_t pixel = units_of(args.channels);
  const std::int64_t lines = args.samples * 2 * args.height;
  for (std::int64_t first = 0; first < lines; first += kMaxLines) {
    const dim3 grid(blocks_for(2 * args.width * pixel, kThreads),
                    static_cast<unsigned>(std::min(kMaxLines, lines - first)));
    join<Unit>
        <<<grid, kThreads, 0, stream>>>(args, static_cast<int>(pixel), units_of(args.row), first);
  }
}

}  // namespace

void launch_fold_upsampling(const FoldUpsamplingArgs& args, cudaStream_t stream) {
  const std::int64_t count = 16 * args.c_out * args.c_in;
  if (count == 0) return;
  with_element(args.dtype, [&](auto element) {
    fold<decltype(element)><<<blocks_for(count, kThreads), kThreads, 0, stream>>>(args);
  });
  check_launch("launch fold_upsampling");
}

void launch_join_phases(const JoinPhasesArgs& args, cudaStream_t stream) {
  if (args.samples * args.height * args.width * args.channels == 0) return;
  const std::int64_t element = dtype_bits(args.dtype) / 8;
  const bool aligned = vectors_fit(args.phases, args.row, args.channels, element) &&
                       vectors_fit(args.y, args.channels, args.channels, element);
  if (aligned) {
    join_units<uint4>(args, stream);
  } else if (args.dtype == DType::kBF16) {
    join_units<std::uint16_t>(args, stream);
  } else {
    join_units<std::uint32_t>(args, stream);
  }
  check_launch("launch join_phases");
}

}  // namespace dither::cuda
