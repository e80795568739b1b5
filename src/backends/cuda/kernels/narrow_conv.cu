#include <cuda_pipeline.h>

#include <string>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/hopper.cuh"
#include "backends/cuda/kernels/narrow_conv.h"

namespace dither::cuda {
namespace {

constexpr int kOut = 8;     // columns of a product of mma.m16n8k16
constexpr int kStrip = 16;  // its rows: neighbouring pixels of a line
constexpr int kDepth = 16;  // channels at a time
constexpr int kTaps = 9;
constexpr int kWarpLines = 2;  // of y: what a warp reads serves both
constexpr int kTileHeight = 8;
constexpr int kTileWidth = 32;
constexpr int kReadHeight = kTileHeight + 2;
constexpr int kReadWidth = kTileWidth + 2;
constexpr int kThreads = 32 * (kTileWidth / kStrip) * (kTileHeight / kWarpLines);
constexpr int kVector = 8;   // elements of 16 bytes
constexpr int kSwizzle = 8;  // vectors that change places, so that 8 pixels lie in all banks
constexpr std::int64_t kMaxChannels = 256;  // more do not fit into shared memory

/// A row of weights has one vector more than it needs: 8 rows lie in all banks.
__host__ __device__ constexpr int weight_row(int c_in) { return kTaps * c_in + kVector; }

std::size_t shared_bytes(int c_in) {
  return (static_cast<std::size_t>(kReadHeight) * kReadWidth * c_in +
          static_cast<std::size_t>(kOut) * weight_row(c_in)) *
         sizeof(Bf16);
}

/// Where a vector of a pixel lies in the tile, in elements.
__device__ int place(int pixel, int vector, int c_in) {
  return pixel * c_in + (vector ^ (pixel % kSwizzle)) * kVector;
}

/// 16 rows of 16 elements, each thread's part of them as mma.m16n8k16 reads A. Thread i names the
/// 16 bytes of row i % 16, of elements 8 (i / 16) on.
__device__ void load_rows(const Bf16* from, std::uint32_t (&a)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(shared_address(from)));
}

__device__ void multiply_add(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                             float (&sum)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Copies the pixels that a tile of y reads, zeros outside the image, and all weights.
__device__ void load_tile(const NarrowConvArgs& args, int top, int left, Bf16* pixels,
                          Bf16* weights) {
  const int c_in = static_cast<int>(args.c_in);
  const int vectors = c_in / kVector;
  const auto height = static_cast<int>(args.height);
  const auto width = static_cast<int>(args.width);
  const Bf16* const x = static_cast<const Bf16*>(args.x) +
                        static_cast<std::int64_t>(blockIdx.z) * args.height * args.width * c_in;
  for (int i = static_cast<int>(threadIdx.x); i < kReadHeight * kReadWidth * vectors;
       i += kThreads) {
    const int pixel = i / vectors;
    const int vector = i % vectors;
    const int line = top + pixel / kReadWidth;
    const int column = left + pixel % kReadWidth;
    const bool inside = line >= 0 && line < height && column >= 0 && column < width;
    const std::int64_t from =
        inside ? (static_cast<std::int64_t>(line) * width + column) * c_in + vector * kVector : 0;
    __pipeline_memcpy_async(pixels + place(pixel, vector, c_in), x + from, 16, inside ? 0 : 16);
  }
  const int row_vectors = kTaps * vectors;
  const auto* const weight = static_cast<const Bf16*>(args.weight);
  for (int i = static_cast<int>(threadIdx.x); i < kOut * row_vectors; i += kThreads) {
    const int row = i / row_vectors;
    __pipeline_memcpy_async(weights + row * weight_row(c_in) + (i - row * row_vectors) * kVector,
                            weight + i * kVector, 16);
  }
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncthreads();
}

/// A block per tile of y, a warp per strip of kWarpLines lines: products of pixels [16, 16
/// channels] and weights [16 channels, 8] for each tap. A line that was loaded serves both lines of
/// y.
__global__ void __launch_bounds__(kThreads, 2) narrow_conv(NarrowConvArgs args) {
  extern __shared__ __align__(128) Bf16 shared[];
  const int c_in = static_cast<int>(args.c_in);
  Bf16* const pixels = shared;
  Bf16* const weights = shared + kReadHeight * kReadWidth * c_in;
  const int tile_top = static_cast<int>(blockIdx.y) * kTileHeight;
  const int tile_left = static_cast<int>(blockIdx.x) * kTileWidth;
  load_tile(args, tile_top - args.top, tile_left - args.left, pixels, weights);

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int strip = warp % (kTileWidth / kStrip) * kStrip;
  const int first_line = warp / (kTileWidth / kStrip) * kWarpLines;
  float sums[kWarpLines][4] = {};
  for (int channel = 0; channel < c_in; channel += kDepth) {
#pragma unroll
    for (int dx = 0; dx < 3; ++dx) {
      std::uint32_t b[3][2];
#pragma unroll
      for (int dy = 0; dy < 3; ++dy) {
        const Bf16* const from =
            weights + lane / 4 * weight_row(c_in) + (dy * 3 + dx) * c_in + channel + lane % 4 * 2;
        b[dy][0] = *reinterpret_cast<const std::uint32_t*>(from);
        b[dy][1] = *reinterpret_cast<const std::uint32_t*>(from + kDepth / 2);
      }
#pragma unroll
      for (int line = 0; line < kWarpLines + 2; ++line) {
        const int pixel = (first_line + line) * kReadWidth + strip + dx + lane % kStrip;
        std::uint32_t a[4];
        load_rows(pixels + place(pixel, channel / kVector + lane / kStrip, c_in), a);
#pragma unroll
        for (int out = 0; out < kWarpLines; ++out) {
          if (line >= out && line < out + 3) multiply_add(a, b[line - out], sums[out]);
        }
      }
    }
  }

  const int height = static_cast<int>(args.height) + args.top + args.bottom - 2;
  const int width = static_cast<int>(args.width) + args.left + args.right - 2;
  const auto c_out = static_cast<int>(args.c_out);
  Bf16* const y =
      static_cast<Bf16*>(args.y) + static_cast<std::int64_t>(blockIdx.z) * height * width * c_out;
#pragma unroll
  for (int out = 0; out < kWarpLines; ++out) {
    const int line = tile_top + first_line + out;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = tile_left + strip + lane / 4 + i / 2 * 8;
      const int channel = lane % 4 * 2 + i % 2;
      if (line >= height || column >= width || channel >= c_out) continue;
      const float bias =
          args.bias == nullptr ? 0.0F : to_f32(static_cast<const Bf16*>(args.bias)[channel]);
      y[(static_cast<std::int64_t>(line) * width + column) * c_out + channel] =
          from_f32<Bf16>(sums[out][i] + bias);
    }
  }
}

}  // namespace

bool narrow_conv_takes(std::int64_t c_in, std::int64_t c_out) {
  return c_in > 0 && c_in % (kSwizzle * kVector) == 0 && c_in <= kMaxChannels && c_out > 0 &&
         c_out <= kOut;
}

void launch_narrow_conv(const NarrowConvArgs& args, cudaStream_t stream) {
  if (!narrow_conv_takes(args.c_in, args.c_out)) {
    throw Error(ErrorCode::kUnsupported, "cuda: narrow_conv of " + std::to_string(args.c_in) +
                                             " channels to " + std::to_string(args.c_out));
  }
  if (args.samples == 0) return;
  const std::size_t shared = shared_bytes(static_cast<int>(args.c_in));
  check(cudaFuncSetAttribute(narrow_conv, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared)),
        "narrow_conv: shared memory");
  const dim3 grid(blocks_for(args.out_width(), kTileWidth),
                  blocks_for(args.out_height(), kTileHeight), static_cast<unsigned>(args.samples));
  narrow_conv<<<grid, kThreads, shared, stream>>>(args);
  check_launch("launch narrow_conv");
}

}  // namespace dither::cuda
