#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/flash_attention.h"
#include "backends/cuda/kernels/flash_split.cuh"
#include "backends/cuda/kernels/float8.cuh"

/// What the attention kernel computes of a tile, and how it becomes the result.
namespace dither::cuda {

// A block of three warpgroups: one thread of the first fetches, the other two have 64 queries each
// and take turns, so that one multiplies while the other makes exponentials.
inline constexpr int kFlashWarpgroup = 128;
inline constexpr int kFlashThreads = 3 * kFlashWarpgroup;
inline constexpr int kFlashQueries = 128;  ///< of a block
inline constexpr int kFlashDim = static_cast<int>(kFlashHeadDim);

template <typename F>
struct FlashParams {
  typename F::Source from;
  RowView y;
  float y_reciprocal;
  int first_queries;  ///< whose reciprocal is another
  float first_reciprocal;
  float scale_log2;  ///< of exponents of 2
  int queries, keys, heads;
  int query_tiles;   ///< per head
  FlashSplit split;  ///< of tiles: samples, heads, query tiles, the last fastest
  FlashWorkspace workspace;
};

struct FlashTile {
  int batch, head, query;
};

template <typename F>
__device__ FlashTile flash_tile(const FlashParams<F>& p, int index) {
  const int of_heads = index / p.query_tiles;
  return {of_heads / p.heads, of_heads % p.heads, index % p.query_tiles * kFlashQueries};
}

__device__ inline float exp2_fast(float x) {
  float y = 0;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Of a thread: row r, group g of 8 channels: [4 g + 2 r], and its neighbour.
using FlashSums = float[kFlashDim / 2];

/// Two rows of a thread. What F::exponent() of a difference of `largest` is 2's exponent.
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0, 0};  ///< of this thread's columns
};

/// sums / total, to rows `row` and `row` + 8 of the result.
template <typename F>
__device__ void write_result(const FlashParams<F>& p, const FlashSums& sums, Softmax& softmax,
                             const FlashTile& tile, int row, int lane) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float reciprocal = 1.0F / sum_lanes(softmax.total[r], 4);
    const int query = tile.query + row + 8 * r;
    const std::int64_t offset =
        (static_cast<std::int64_t>(tile.batch) * p.queries + query) * p.y.row_stride +
        tile.head * kFlashDim;
#pragma unroll
    for (int t = 0; t < kFlashDim / 32; ++t) {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int first = (4 * t + i) * 4 + 2 * r;
        const __nv_bfloat162 pair =
            __floats2bfloat162_rn(sums[first] * reciprocal, sums[first + 1] * reciprocal);
        words[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
      }
      transpose(words, lane, 1);
      if (query >= p.queries) continue;
      const std::int64_t column = offset + 32 * t + lane % 4 * 8;
      const uint4 vector = make_uint4(words[0], words[1], words[2], words[3]);
      if (p.y_reciprocal == 0) {
        *reinterpret_cast<uint4*>(reinterpret_cast<Bf16*>(p.y.data) + column) = vector;
      } else {
        float v[8];
        unpack<Bf16>(vector, v);
        store_codes(v, query < p.first_queries ? p.first_reciprocal : p.y_reciprocal,
                    reinterpret_cast<std::uint8_t*>(p.y.data) + column);
      }
    }
  }
}

/// Sums that are as long as the keys: an FP8 product keeps 13 bits behind the largest of what it
/// adds, and drops the rest. With each addition to a large sum a little is lost, always towards
/// zero: a sixth of the result over 32760 keys. So sums stay short, and others keep them.
class KeptSums {
 public:
  __device__ explicit KeptSums(float4* memory) : memory_(memory) {}

  /// What is kept is multiplied by these from now on.
  __device__ void scale(const float (&factors)[2]) {
    factors_[0] *= factors[0];
    factors_[1] *= factors[1];
  }
  /// kept = factors_ kept + factors sums.
  __device__ void add(const FlashSums& sums, const float (&factors)[2]) {
#pragma unroll
    for (int i = 0; i < kFlashDim / 8; ++i) {
      float4 x = load(i);
      x.x = fmaf(x.x, factors_[0], factors[0] * sums[4 * i]);
      x.y = fmaf(x.y, factors_[0], factors[0] * sums[4 * i + 1]);
      x.z = fmaf(x.z, factors_[1], factors[1] * sums[4 * i + 2]);
      x.w = fmaf(x.w, factors_[1], factors[1] * sums[4 * i + 3]);
      memory_[i * kFlashWarpgroup] = x;
    }
    factors_[0] = 1;
    factors_[1] = 1;
    some_ = true;
  }
  /// sums += factors_ kept, for the last time.
  __device__ void add_to(FlashSums& sums) const {
    if (!some_) return;
#pragma unroll
    for (int i = 0; i < kFlashDim / 8; ++i) {
      const float4 x = load(i);
      sums[4 * i] = fmaf(x.x, factors_[0], sums[4 * i]);
      sums[4 * i + 1] = fmaf(x.y, factors_[0], sums[4 * i + 1]);
      sums[4 * i + 2] = fmaf(x.z, factors_[1], sums[4 * i + 2]);
      sums[4 * i + 3] = fmaf(x.w, factors_[1], sums[4 * i + 3]);
    }
  }

 private:
  __device__ float4 load(int i) const {
    return some_ ? memory_[i * kFlashWarpgroup] : make_float4(0, 0, 0, 0);
  }

  float4* memory_;
  float factors_[2] = {1, 1};
  bool some_ = false;
};

/// Of a warp, of a piece: its lanes' 16 vectors of sums, then largest and total.
inline constexpr int kFlashPieceVectors = kFlashDim / 8 + 1;
inline constexpr int kFlashWarps = 2 * kFlashWarpgroup / 32;  ///< that multiply

/// Leaves a piece in the workspace. Where all pieces of the tile are there with this one, the
/// warp's rows become their sum, in the order of the keys, and true is returned.
template <typename F>
__device__ bool add_pieces(const FlashParams<F>& p, int tile, int warp, int lane, FlashSums& sums,
                           Softmax& softmax) {
  const int cut = tile - p.split.whole;
  const auto vectors = [&](int place) {
    return p.workspace.pieces + (place * kFlashWarps + warp) * kFlashPieceVectors * 32 + lane;
  };
  float4* const mine = vectors(p.split.place(cut));
#pragma unroll
  for (int i = 0; i < kFlashDim / 8; ++i) {
    mine[i * 32] = make_float4(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]);
  }
  constexpr int kOfSoftmax = kFlashDim / 8 * 32;
  mine[kOfSoftmax] =
      make_float4(softmax.largest[0], softmax.largest[1], softmax.total[0], softmax.total[1]);
  __threadfence();
  __syncwarp();
  const int pieces = p.split.pieces(cut);
  unsigned* const arrived = p.workspace.arrived + cut * kFlashWarps + warp;
  unsigned before = lane == 0 ? atomicAdd(arrived, 1U) : 0;
  before = __shfl_sync(0xFFFFFFFFU, before, 0);
  if (before + 1 < static_cast<unsigned>(pieces)) return false;
  if (lane == 0) *arrived = 0;  // as the next launch expects it
  __threadfence();
  const int first = p.split.first_place(cut);
  softmax = Softmax{};
#pragma unroll
  for (float& sum : sums) sum = 0;
  for (int place = first; place < first + pieces; ++place) {
    const float4* const piece = vectors(place);
    const float4 of = __ldcg(piece + kOfSoftmax);
    const float largest[2] = {of.x, of.y};
    const float total[2] = {of.z, of.w};
    float factors[2];  // of what there is
    float other[2];    // of this piece
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float both = fmaxf(softmax.largest[r], largest[r]);
      factors[r] = exp2_fast(F::exponent(softmax.largest[r] - both, p.scale_log2));
      other[r] = exp2_fast(F::exponent(largest[r] - both, p.scale_log2));
      softmax.largest[r] = both;
      softmax.total[r] = fmaf(softmax.total[r], factors[r], total[r] * other[r]);
    }
#pragma unroll
    for (int i = 0; i < kFlashDim / 8; ++i) {
      const float4 x = __ldcg(piece + i * 32);
      sums[4 * i] = fmaf(sums[4 * i], factors[0], x.x * other[0]);
      sums[4 * i + 1] = fmaf(sums[4 * i + 1], factors[0], x.y * other[0]);
      sums[4 * i + 2] = fmaf(sums[4 * i + 2], factors[1], x.z * other[1]);
      sums[4 * i + 3] = fmaf(sums[4 * i + 3], factors[1], x.w * other[1]);
    }
  }
  return true;
}

}  // namespace dither::cuda
