#include <cuda.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/flash_attention.h"
#include "backends/cuda/kernels/float8.cuh"
#include "backends/cuda/kernels/hopper.cuh"
#include "backends/cuda/kernels/tensor_map.h"

namespace dither::cuda {
namespace {

// A block of three warpgroups: one thread of the first fetches, the other two have 64 queries each
// and take turns, so that one multiplies while the other makes exponentials.
constexpr int kWarpgroup = 128;
constexpr int kThreads = 3 * kWarpgroup;
constexpr int kQueries = 128;  ///< of a block
constexpr int kKeys = 176;  ///< of a tile: the most whose scores fit in registers beside the rest
constexpr int kDim = static_cast<int>(kFlashHeadDim);
constexpr int kStages = 2;
// 128 channels lie in two chunks of 64, each with rows of 128 bytes.
constexpr int kChunk = 64;
constexpr int kQueryChunkBytes = kQueries * 128;
constexpr int kKeyChunkBytes = kKeys * 128;
constexpr int kQueryBytes = 2 * kQueryChunkBytes;
constexpr int kTileBytes = 2 * kKeyChunkBytes;
constexpr int kSharedBytes = kQueryBytes + 2 * kStages * kTileBytes + 1024;

struct Params {
  CUtensorMap q, k, v;
  RowView y;
  float y_reciprocal;
  float scale_log2;  ///< of exponents of 2
  int queries, keys, heads;
  int query_tiles;  ///< per head
  int key_tiles;
  int count;  ///< of tiles: samples, heads, query tiles, the last fastest
};

struct Tile {
  int batch, head, query;
};

__device__ Tile tile_at(const Params& p, int index) {
  const int of_heads = index / p.query_tiles;
  return {of_heads / p.heads, of_heads % p.heads, index % p.query_tiles * kQueries};
}

struct Barriers {
  std::uint64_t q_full, q_empty;
  std::uint64_t k_full[kStages], k_empty[kStages];
  std::uint64_t v_full[kStages], v_empty[kStages];
};

struct Shared {
  std::byte* memory;
  Barriers* barriers;
  __device__ std::byte* q() const { return memory; }
  __device__ std::byte* k(int stage) const { return memory + kQueryBytes + stage * kTileBytes; }
  __device__ std::byte* v(int stage) const { return k(kStages + stage); }
};

__device__ void fetch_tile(const CUtensorMap& map, std::byte* to, std::uint64_t* full,
                           std::uint64_t* empty, unsigned phase, int token, const Tile& tile) {
  wait_barrier(empty, phase ^ 1U);
  arrive_and_expect(full, kTileBytes);
  load_box(to, map, full, 0, token, tile.head, tile.batch);
  load_box(to + kKeyChunkBytes, map, full, kChunk, token, tile.head, tile.batch);
}

__device__ void fetch(const Params& p, const Shared& shared) {
  Barriers& barriers = *shared.barriers;
  Turn<kStages> k;
  Turn<kStages> v;
  unsigned q_phase = 0;
  const auto fetch_values = [&](const Tile& tile, int j) {
    fetch_tile(p.v, shared.v(v.stage), &barriers.v_full[v.stage], &barriers.v_empty[v.stage],
               v.phase, j * kKeys, tile);
    v.next();
  };
  for (int i = static_cast<int>(blockIdx.x); i < p.count; i += static_cast<int>(gridDim.x)) {
    const Tile tile = tile_at(p, i);
    wait_barrier(&barriers.q_empty, q_phase ^ 1U);
    q_phase ^= 1U;
    arrive_and_expect(&barriers.q_full, kQueryBytes);
    load_box(shared.q(), p.q, &barriers.q_full, 0, tile.query, tile.head, tile.batch);
    load_box(shared.q() + kQueryChunkBytes, p.q, &barriers.q_full, kChunk, tile.query, tile.head,
             tile.batch);
    // The last keys first: they are the ones that need a mask. Values are wanted a tile later.
    for (int j = p.key_tiles - 1; j >= 0; --j) {
      fetch_tile(p.k, shared.k(k.stage), &barriers.k_full[k.stage], &barriers.k_empty[k.stage],
                 k.phase, j * kKeys, tile);
      k.next();
      if (j + 1 < p.key_tiles) fetch_values(tile, j + 1);
    }
    fetch_values(tile, 0);
  }
}

__device__ inline float exp2_fast(float x) {
  float y = 0;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

using Scores = float[kKeys / 2];  // of a thread: row r, group g of 8 keys: [4 g + 2 r]
using Sums = float[kDim / 2];     // likewise, groups of channels
using Probabilities = std::uint32_t[kKeys / 4];  // pairs of bf16

/// Two rows of a thread.
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0, 0};  ///< of this thread's columns
};

/// Scores become exponentials; returns in `factors` what everything before is multiplied by.
__device__ inline void exponentiate(Scores& scores, float scale_log2, Softmax& softmax,
                                    float (&factors)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = softmax.largest[r];
#pragma unroll
    for (int i = 0; i < kKeys / 4; ++i) {
      largest = fmaxf(largest, scores[i / 2 * 4 + 2 * r + i % 2]);
    }
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 2));
    factors[r] = exp2_fast((softmax.largest[r] - largest) * scale_log2);
    softmax.largest[r] = largest;
    const float offset = largest * scale_log2;
    float total = 0;
#pragma unroll
    for (int i = 0; i < kKeys / 4; ++i) {
      float& score = scores[i / 2 * 4 + 2 * r + i % 2];
      score = exp2_fast(fmaf(score, scale_log2, -offset));
      total += score;
    }
    softmax.total[r] = softmax.total[r] * factors[r] + total;
  }
}

/// In the order in which the next product takes them.
__device__ inline void round_scores(const Scores& scores, Probabilities& probabilities) {
#pragma unroll
  for (int i = 0; i < kKeys / 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(scores[2 * i], scores[2 * i + 1]);
    probabilities[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
  }
}

__device__ inline void mask_keys(Scores& scores, int keys, int lane) {
#pragma unroll
  for (int i = 0; i < kKeys / 2; ++i) {
    const int key = i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (key >= keys) scores[i] = -INFINITY;
  }
}

__device__ inline void begin_scores(const Shared& shared, int warpgroup, int stage,
                                    Scores& scores) {
  const std::uint64_t q = matrix_descriptor(shared.q() + warpgroup * (kQueryChunkBytes / 2));
  const std::uint64_t k = matrix_descriptor(shared.k(stage));
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    const int chunk = step / 4;
    multiply_bf16(scores, q + chunk * (kQueryChunkBytes / 16) + step % 4 * 2,
                  k + chunk * (kKeyChunkBytes / 16) + step % 4 * 2, step > 0);
  }
  commit_products();
}

__device__ inline void begin_sums(const Shared& shared, int stage,
                                  const Probabilities& probabilities, bool add, Sums& sums) {
  const std::uint64_t v = mn_descriptor(shared.v(stage), kKeyChunkBytes);
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) {
    multiply_registers(sums, probabilities + 4 * step, v + step * (16 * 128 / 16), add || step > 0);
  }
  commit_products();
}

/// Registers that a product still reads keep what they hold until here.
__device__ inline void hold(Probabilities& probabilities) {
#pragma unroll
  for (std::uint32_t& pair : probabilities) asm volatile("" : "+r"(pair)::"memory");
}

/// Of 4 words each in 4 lanes: lane i gets word i of each, in the order of lanes.
__device__ inline void transpose(std::uint32_t (&words)[4], int lane) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool high = (lane & bit) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) != 0) continue;
      std::uint32_t& low_word = words[i];
      std::uint32_t& high_word = words[i | bit];
      const std::uint32_t received = __shfl_xor_sync(0xFFFFFFFFU, high ? low_word : high_word, bit);
      (high ? low_word : high_word) = received;
    }
  }
}

/// sums / total, to rows `row` and `row` + 8 of the result.
__device__ void write_result(const Params& p, const Sums& sums, Softmax& softmax, const Tile& tile,
                             int row, int lane) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float reciprocal = 1.0F / sum_lanes(softmax.total[r], 4);
    const int query = tile.query + row + 8 * r;
    const std::int64_t offset =
        (static_cast<std::int64_t>(tile.batch) * p.queries + query) * p.y.row_stride +
        tile.head * kDim;
#pragma unroll
    for (int t = 0; t < kDim / 32; ++t) {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int first = (4 * t + i) * 4 + 2 * r;
        const __nv_bfloat162 pair =
            __floats2bfloat162_rn(sums[first] * reciprocal, sums[first + 1] * reciprocal);
        words[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
      }
      transpose(words, lane);
      if (query >= p.queries) continue;
      const std::int64_t column = offset + 32 * t + lane % 4 * 8;
      const uint4 vector = make_uint4(words[0], words[1], words[2], words[3]);
      if (p.y_reciprocal == 0) {
        *reinterpret_cast<uint4*>(reinterpret_cast<Bf16*>(p.y.data) + column) = vector;
      } else {
        float v[8];
        unpack<Bf16>(vector, v);
        store_codes(v, p.y_reciprocal, reinterpret_cast<std::uint8_t*>(p.y.data) + column);
      }
    }
  }
}

__device__ void attend(const Params& p, const Shared& shared, int warpgroup) {
  Barriers& barriers = *shared.barriers;
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  const int lane = thread % 32;
  const int other = 1 - warpgroup;
  const auto release = [&](std::uint64_t* empty) {
    if (lane == 0) arrive(empty);
  };
  Scores scores;
  Sums sums;
  Probabilities probabilities;
  Turn<kStages> k;
  Turn<kStages> v;
  unsigned q_phase = 0;
  if (warpgroup == 1) give_turn(0);
  for (int i = static_cast<int>(blockIdx.x); i < p.count; i += static_cast<int>(gridDim.x)) {
    const Tile tile = tile_at(p, i);
    Softmax softmax;
    float factors[2];
    wait_barrier(&barriers.q_full, q_phase);
    q_phase ^= 1U;
    wait_barrier(&barriers.k_full[k.stage], k.phase);
    fence_products();
    begin_scores(shared, warpgroup, k.stage, scores);
    wait_products<0>();
    hold_sums(scores);
    release(&barriers.k_empty[k.stage]);
    k.next();
    const int keys_of_last = p.keys - (p.key_tiles - 1) * kKeys;
    if (keys_of_last < kKeys) mask_keys(scores, keys_of_last, lane);
    exponentiate(scores, p.scale_log2, softmax, factors);
    round_scores(scores, probabilities);
    for (int j = 1; j < p.key_tiles; ++j) {
      wait_barrier(&barriers.k_full[k.stage], k.phase);
      take_turn(warpgroup);
      hold(probabilities);
      fence_products();
      begin_scores(shared, warpgroup, k.stage, scores);
      wait_barrier(&barriers.v_full[v.stage], v.phase);
      begin_sums(shared, v.stage, probabilities, j > 1, sums);
      give_turn(other);
      wait_products<1>();
      hold_sums(scores);
      release(&barriers.k_empty[k.stage]);
      k.next();
      exponentiate(scores, p.scale_log2, softmax, factors);
      wait_products<0>();
      hold_sums(sums);
      hold(probabilities);
      release(&barriers.v_empty[v.stage]);
      v.next();
#pragma unroll
      for (int n = 0; n < kDim / 2; ++n) sums[n] *= factors[n / 2 % 2];
      round_scores(scores, probabilities);
    }
    release(&barriers.q_empty);
    wait_barrier(&barriers.v_full[v.stage], v.phase);
    fence_products();
    begin_sums(shared, v.stage, probabilities, p.key_tiles > 1, sums);
    wait_products<0>();
    hold_sums(sums);
    hold(probabilities);
    release(&barriers.v_empty[v.stage]);
    v.next();
    write_result(p, sums, softmax, tile, warpgroup * 64 + thread / 32 * 16 + lane / 4, lane);
  }
}

__global__ void __launch_bounds__(kThreads, 1) flash_attention(const __grid_constant__ Params p) {
  extern __shared__ std::byte raw[];
  __shared__ Barriers barriers;
  const std::uint32_t address = shared_address(raw);
  const Shared shared{raw + ((address + 1023U) / 1024U * 1024U - address), &barriers};
  if (threadIdx.x == 0) {
    prefetch_map(p.q);
    prefetch_map(p.k);
    prefetch_map(p.v);
    constexpr unsigned kWarps = 8;  // that multiply
    init_barrier(&barriers.q_full, 1);
    init_barrier(&barriers.q_empty, kWarps);
    for (int i = 0; i < kStages; ++i) {
      init_barrier(&barriers.k_full[i], 1);
      init_barrier(&barriers.k_empty[i], kWarps);
      init_barrier(&barriers.v_full[i], 1);
      init_barrier(&barriers.v_empty[i], kWarps);
    }
    fence_barrier_init();
  }
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup;
  if (warpgroup == 0) {
    give_registers<24>();
    if (threadIdx.x == 0) fetch(p, shared);
  } else {
    take_registers<240>();
    attend(p, shared, warpgroup - 1);
  }
}

CUtensorMap map_of(const HeadsView& view, const FlashAttentionArgs& args, int tokens) {
  const auto bytes = [](std::int64_t stride) { return static_cast<std::uint64_t>(stride * 2); };
  return tensor_map<4>(
      DType::kBF16, view.data,
      {static_cast<std::uint64_t>(kDim), static_cast<std::uint64_t>(view.tokens),
       static_cast<std::uint64_t>(args.heads), static_cast<std::uint64_t>(args.batch)},
      {bytes(view.token_stride), bytes(view.head_stride), bytes(view.batch_stride)},
      {kChunk, static_cast<std::uint32_t>(tokens), 1, 1});
}

bool view_fits(const HeadsView& view) {
  return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 && view.token_stride % 8 == 0 &&
         view.head_stride % 8 == 0 && view.batch_stride % 8 == 0;
}

}  // namespace

bool flash_attention_fits(const FlashAttentionArgs& args) {
  const std::uintptr_t alignment = args.y_reciprocal == 0 ? 16 : 8;
  return view_fits(args.q) && view_fits(args.k) && view_fits(args.v) && args.scale > 0 &&
         reinterpret_cast<std::uintptr_t>(args.y.data) % alignment == 0 &&
         args.y.row_stride % 8 == 0;
}

void launch_flash_attention(const FlashAttentionArgs& args, cudaStream_t stream) {
  Params params{};
  params.q = map_of(args.q, args, kQueries);
  params.k = map_of(args.k, args, kKeys);
  params.v = map_of(args.v, args, kKeys);
  params.y = args.y;
  params.y_reciprocal = args.y_reciprocal;
  params.scale_log2 = args.scale * 1.4426950408889634F;
  params.queries = static_cast<int>(args.q.tokens);
  params.keys = static_cast<int>(args.k.tokens);
  params.heads = static_cast<int>(args.heads);
  params.query_tiles = (params.queries + kQueries - 1) / kQueries;
  params.key_tiles = (params.keys + kKeys - 1) / kKeys;
  params.count = static_cast<int>(args.batch) * params.heads * params.query_tiles;
  if (params.count == 0) return;
  check(cudaFuncSetAttribute(flash_attention, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kSharedBytes),
        "take shared memory");
  const int blocks = std::min(multiprocessors(), params.count);
  flash_attention<<<static_cast<unsigned>(blocks), kThreads, kSharedBytes, stream>>>(params);
  check_launch("launch flash_attention");
}

}  // namespace dither::cuda
