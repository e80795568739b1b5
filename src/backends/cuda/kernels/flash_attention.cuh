#pragma once

#include <cuda.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/flash_attention.h"
#include "backends/cuda/kernels/flash_result.cuh"
#include "backends/cuda/kernels/flash_split.cuh"
#include "backends/cuda/kernels/hopper.cuh"
#include "backends/cuda/kernels/tensor_map.h"
#include "backends/cuda/multiprocessors.h"

/// The attention kernel, for operands of a format `F`:
///  - kKeys of a tile, kStages of its ring; bytes of 128 queries, and of a tile's keys, values and
///    scales;
///  - Source: what fetch_queries(), fetch_keys() and fetch_values() copy from;
///  - begin_scores() and begin_sums(): the two products, committed but not waited for, of
///    Probabilities, which round() makes of scores;
///  - Scales of a tile, read_scales() and, with them, exponentiate();
///  - exponent() of 2 that a difference of Softmax::largest stands for;
///  - kTilesOfSums: after so many tiles sums go to shared memory, or 0.
namespace dither::cuda {

template <typename F>
struct FlashBarriers {
  std::uint64_t q_full, q_empty;
  std::uint64_t k_full[F::kStages], k_empty[F::kStages];
  std::uint64_t v_full[F::kStages], v_empty[F::kStages];
};

template <typename F>
struct FlashShared {
  static constexpr int kRing = F::kQueryBytes + F::kStages * (F::kKeyBytes + F::kValueBytes);
  static constexpr int kKept = F::kTilesOfSums > 0 ? 4 * kFlashQueries* kFlashDim : 0;
  static constexpr int kBytes = kRing + kKept + F::kStages * F::kScaleRoom;
  std::byte* memory;
  FlashBarriers<F>* barriers;
  __device__ std::byte* q() const { return memory; }
  __device__ std::byte* v(int stage) const {
    return memory + F::kQueryBytes + stage * F::kValueBytes;
  }
  __device__ std::byte* k(int stage) const { return v(F::kStages) + stage * F::kKeyBytes; }
  /// Of the keys of a stage.
  __device__ std::byte* scales(int stage) const {
    return memory + kRing + kKept + stage * F::kScaleRoom;
  }
  /// 4 sums of each thread of a warpgroup, kFlashWarpgroup vectors before its next 4.
  __device__ float4* kept(int warpgroup, int thread) const {
    return reinterpret_cast<float4*>(memory + kRing) + warpgroup * (kKept / 32) + thread;
  }
};

template <typename F>
__device__ void flash_fetch(const FlashParams<F>& p, const FlashShared<F>& shared) {
  FlashBarriers<F>& barriers = *shared.barriers;
  Turn<F::kStages> k;
  Turn<F::kStages> v;
  unsigned q_phase = 0;
  const auto fetch_values = [&](const FlashTile& tile, int j) {
    wait_barrier(&barriers.v_empty[v.stage], v.phase ^ 1U);
    F::fetch_values(p, shared.v(v.stage), &barriers.v_full[v.stage], j, tile);
    v.next();
  };
  for (int at = p.split.first(); !p.split.done(at); at = p.split.next(at)) {
    const FlashPiece piece = p.split.piece(at);
    const FlashTile tile = flash_tile(p, piece.tile);
    wait_barrier(&barriers.q_empty, q_phase ^ 1U);
    q_phase ^= 1U;
    F::fetch_queries(p, shared.q(), &barriers.q_full, tile);
    // The last keys first: they are the ones that need a mask. Values are wanted a tile later.
    const int first = p.split.key_tiles - 1 - piece.begin;
    const int last = p.split.key_tiles - piece.end;
    for (int j = first; j >= last; --j) {
      wait_barrier(&barriers.k_empty[k.stage], k.phase ^ 1U);
      F::fetch_keys(p, shared.k(k.stage), shared.scales(k.stage), &barriers.k_full[k.stage], j,
                    tile);
      k.next();
      if (j < first) fetch_values(tile, j + 1);
    }
    fetch_values(tile, last);
  }
}

/// Of a thread: row r, group g of 8 keys: [4 g + 2 r], and its neighbour.
template <typename F>
using FlashScores = float[F::kKeys / 2];
template <int kCount>
__device__ inline void mask_keys(float (&scores)[kCount], int keys, int lane) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int key = i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (key >= keys) scores[i] = -INFINITY;
  }
}

/// Registers that a product still reads keep what they hold until here.
template <int kCount>
__device__ inline void hold(std::uint32_t (&registers)[kCount]) {
#pragma unroll
  for (std::uint32_t& word : registers) asm volatile("" : "+r"(word)::"memory");
}

template <typename F>
__device__ void flash_attend(const FlashParams<F>& p, const FlashShared<F>& shared, int warpgroup) {
  FlashBarriers<F>& barriers = *shared.barriers;
  const int thread = static_cast<int>(threadIdx.x) % kFlashWarpgroup;
  const int lane = thread % 32;
  const int other = 1 - warpgroup;
  const auto release = [&](std::uint64_t* empty) {
    if (lane == 0) arrive(empty);
  };
  FlashScores<F> scores;
  FlashSums sums;
  typename F::Probabilities probabilities;
  Turn<F::kStages> k;
  Turn<F::kStages> v;
  unsigned q_phase = 0;
  if (warpgroup == 1) give_turn(0);
  for (int at = p.split.first(); !p.split.done(at); at = p.split.next(at)) {
    const FlashPiece piece = p.split.piece(at);
    Softmax softmax;
    KeptSums kept(shared.kept(warpgroup, thread));
    float factors[2];
    bool add = false;
    wait_barrier(&barriers.q_full, q_phase);
    q_phase ^= 1U;
    wait_barrier(&barriers.k_full[k.stage], k.phase);
    fence_products();
    F::begin_scores(shared.q(), shared.k(k.stage), warpgroup, scores);
    typename F::Scales scales = F::read_scales(shared.scales(k.stage));
    wait_products<0>();
    hold_sums(scores);
    release(&barriers.k_empty[k.stage]);
    k.next();
    const int keys_of_last = p.keys - (p.split.key_tiles - 1) * F::kKeys;
    if (piece.begin == 0 && keys_of_last < F::kKeys) mask_keys(scores, keys_of_last, lane);
    F::exponentiate(scores, scales, p.scale_log2, softmax, factors);
    F::round(scores, probabilities);
    for (int j = 1; j < piece.end - piece.begin; ++j) {
      wait_barrier(&barriers.k_full[k.stage], k.phase);
      take_turn(warpgroup);
      hold(probabilities);
      fence_products();
      F::begin_scores(shared.q(), shared.k(k.stage), warpgroup, scores);
      wait_barrier(&barriers.v_full[v.stage], v.phase);
      F::begin_sums(shared.v(v.stage), probabilities, add, sums);
      give_turn(other);
      scales = F::read_scales(shared.scales(k.stage));
      wait_products<1>();
      hold_sums(scores);
      release(&barriers.k_empty[k.stage]);
      k.next();
      F::exponentiate(scores, scales, p.scale_log2, softmax, factors);
      wait_products<0>();
      hold_sums(sums);
      hold(probabilities);
      release(&barriers.v_empty[v.stage]);
      v.next();
      add = true;
      if constexpr (F::kTilesOfSums > 0) {
        kept.scale(factors);
        add = j % F::kTilesOfSums != 0;
      }
      if (!add) {
        kept.add(sums, factors);
      } else if (__any_sync(0xFFFFFFFFU, factors[0] != 1 || factors[1] != 1)) {
#pragma unroll
        for (int n = 0; n < kFlashDim / 2; ++n) sums[n] *= factors[n / 2 % 2];
      }
      F::round(scores, probabilities);
    }
    release(&barriers.q_empty);
    wait_barrier(&barriers.v_full[v.stage], v.phase);
    fence_products();
    F::begin_sums(shared.v(v.stage), probabilities, add, sums);
    wait_products<0>();
    hold_sums(sums);
    hold(probabilities);
    release(&barriers.v_empty[v.stage]);
    v.next();
    if constexpr (F::kTilesOfSums > 0) kept.add_to(sums);
    const int warp = warpgroup * 4 + thread / 32;
    if (piece.end - piece.begin < p.split.key_tiles &&
        !add_pieces(p, piece.tile, warp, lane, sums, softmax)) {
      continue;
    }
    write_result(p, sums, softmax, flash_tile(p, piece.tile), warp * 16 + lane / 4, lane);
  }
}

template <typename F>
__global__ void __launch_bounds__(kFlashThreads, 1)
    flash_attention(const __grid_constant__ FlashParams<F> p) {
  extern __shared__ std::byte raw[];
  __shared__ FlashBarriers<F> barriers;
  const std::uint32_t address = shared_address(raw);
  const FlashShared<F> shared{raw + ((address + 1023U) / 1024U * 1024U - address), &barriers};
  if (threadIdx.x == 0) {
    init_barrier(&barriers.q_full, 1);
    init_barrier(&barriers.q_empty, kFlashWarps);
    for (int i = 0; i < F::kStages; ++i) {
      init_barrier(&barriers.k_full[i], 1);
      init_barrier(&barriers.k_empty[i], kFlashWarps);
      init_barrier(&barriers.v_full[i], 1);
      init_barrier(&barriers.v_empty[i], kFlashWarps);
    }
    fence_barrier_init();
  }
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / kFlashWarpgroup;
  if (warpgroup == 0) {
    give_registers<24>();
    if (threadIdx.x == 0) flash_fetch(p, shared);
  } else {
    take_registers<240>();
    flash_attend(p, shared, warpgroup - 1);
  }
}

/// Boxes of 128 bytes of `tokens` tokens of one head.
inline CUtensorMap map_of_heads(DType dtype, const HeadsView& view, const FlashAttentionArgs& args,
                                int tokens) {
  const int bytes = dtype_bits(dtype) / 8;
  const auto stride = [&](std::int64_t elements) {
    return static_cast<std::uint64_t>(elements * bytes);
  };
  return tensor_map<4>(
      dtype, view.data,
      {static_cast<std::uint64_t>(kFlashDim), static_cast<std::uint64_t>(view.tokens),
       static_cast<std::uint64_t>(args.heads), static_cast<std::uint64_t>(args.batch)},
      {stride(view.token_stride), stride(view.head_stride), stride(view.batch_stride)},
      {static_cast<std::uint32_t>(128 / bytes), static_cast<std::uint32_t>(tokens), 1, 1});
}

inline int flash_query_tiles(const FlashAttentionArgs& args) {
  return (static_cast<int>(args.q.tokens) + kFlashQueries - 1) / kFlashQueries;
}

template <typename F>
FlashSplit split_of(const FlashAttentionArgs& args) {
  const auto heads = static_cast<int>(args.batch * args.heads);
  return split_tiles(heads * flash_query_tiles(args),
                     (static_cast<int>(args.k.tokens) + F::kKeys - 1) / F::kKeys,
                     multiprocessors());
}

template <typename F>
std::int64_t piece_bytes_of(const FlashAttentionArgs& args) {
  constexpr std::int64_t kOfPlace =
      kFlashWarps * 32 * kFlashPieceVectors * static_cast<std::int64_t>(sizeof(float4));
  return split_of<F>(args).places(multiprocessors()) * kOfPlace;
}

template <typename F>
void run_flash_attention(const FlashAttentionArgs& args, const typename F::Source& from,
                         cudaStream_t stream) {
  FlashParams<F> params{};
  params.from = from;
  params.y = args.y;
  params.y_reciprocal = args.y_reciprocal;
  params.first_queries = static_cast<int>(args.first_queries);
  params.first_reciprocal = args.first_reciprocal;
  params.scale_log2 = args.scale * 1.4426950408889634F;
  params.queries = static_cast<int>(args.q.tokens);
  params.keys = static_cast<int>(args.k.tokens);
  params.heads = static_cast<int>(args.heads);
  params.query_tiles = flash_query_tiles(args);
  params.split = split_of<F>(args);
  params.workspace = args.workspace;
  const int blocks =
      params.split.steps > 0 ? multiprocessors() : std::min(multiprocessors(), params.split.whole);
  if (blocks == 0) return;
  constexpr int kSharedBytes = FlashShared<F>::kBytes + 1024;  // to begin at a multiple of 1024
  check(cudaFuncSetAttribute(flash_attention<F>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kSharedBytes),
        "take shared memory");
  flash_attention<F>
      <<<static_cast<unsigned>(blocks), kFlashThreads, kSharedBytes, stream>>>(params);
  check_launch("launch flash_attention");
}

}  // namespace dither::cuda
