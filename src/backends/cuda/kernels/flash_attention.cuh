#pragma once

#include <cuda.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/flash_attention.h"
#include "backends/cuda/kernels/float8.cuh"
#include "backends/cuda/kernels/hopper.cuh"
#include "backends/cuda/kernels/tensor_map.h"

/// The attention kernel, for operands of a format `F`:
///  - kKeys of a tile, kStages of its ring; bytes of 128 queries, and of a tile's keys, values and
///    scales;
///  - Source: what fetch_queries(), fetch_keys() and fetch_values() copy from;
///  - begin_scores() and begin_sums(): the two products, committed but not waited for, of
///    Probabilities, which round() makes of scores;
///  - Scales of a tile, read_scales() and, with them, exponentiate();
///  - kTilesOfSums: after so many tiles sums go to shared memory, or 0.
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
  float scale_log2;  ///< of exponents of 2
  int queries, keys, heads;
  int query_tiles;  ///< per head
  int key_tiles;
  int count;  ///< of tiles: samples, heads, query tiles, the last fastest
};

struct FlashTile {
  int batch, head, query;
};

template <typename F>
__device__ FlashTile flash_tile(const FlashParams<F>& p, int index) {
  const int of_heads = index / p.query_tiles;
  return {of_heads / p.heads, of_heads % p.heads, index % p.query_tiles * kFlashQueries};
}

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
  for (int i = static_cast<int>(blockIdx.x); i < p.count; i += static_cast<int>(gridDim.x)) {
    const FlashTile tile = flash_tile(p, i);
    wait_barrier(&barriers.q_empty, q_phase ^ 1U);
    q_phase ^= 1U;
    F::fetch_queries(p, shared.q(), &barriers.q_full, tile);
    // The last keys first: they are the ones that need a mask. Values are wanted a tile later.
    for (int j = p.key_tiles - 1; j >= 0; --j) {
      wait_barrier(&barriers.k_empty[k.stage], k.phase ^ 1U);
      F::fetch_keys(p, shared.k(k.stage), shared.scales(k.stage), &barriers.k_full[k.stage], j,
                    tile);
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

/// Of a thread: row r, group g of 8 keys: [4 g + 2 r], and its neighbour.
template <typename F>
using FlashScores = float[F::kKeys / 2];
using FlashSums = float[kFlashDim / 2];  ///< likewise, groups of channels

/// Two rows of a thread.
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0, 0};  ///< of this thread's columns
};

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
        store_codes(v, p.y_reciprocal, reinterpret_cast<std::uint8_t*>(p.y.data) + column);
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
  for (int i = static_cast<int>(blockIdx.x); i < p.count; i += static_cast<int>(gridDim.x)) {
    const FlashTile tile = flash_tile(p, i);
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
    const int keys_of_last = p.keys - (p.key_tiles - 1) * F::kKeys;
    if (keys_of_last < F::kKeys) mask_keys(scores, keys_of_last, lane);
    F::exponentiate(scores, scales, p.scale_log2, softmax, factors);
    F::round(scores, probabilities);
    for (int j = 1; j < p.key_tiles; ++j) {
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
    write_result(p, sums, softmax, tile, warpgroup * 64 + thread / 32 * 16 + lane / 4, lane);
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
    constexpr unsigned kWarps = 8;  // that multiply
    init_barrier(&barriers.q_full, 1);
    init_barrier(&barriers.q_empty, kWarps);
    for (int i = 0; i < F::kStages; ++i) {
      init_barrier(&barriers.k_full[i], 1);
      init_barrier(&barriers.k_empty[i], kWarps);
      init_barrier(&barriers.v_full[i], 1);
      init_barrier(&barriers.v_empty[i], kWarps);
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

template <typename F>
void run_flash_attention(const FlashAttentionArgs& args, const typename F::Source& from,
                         cudaStream_t stream) {
  FlashParams<F> params{};
  params.from = from;
  params.y = args.y;
  params.y_reciprocal = args.y_reciprocal;
  params.scale_log2 = args.scale * 1.4426950408889634F;
  params.queries = static_cast<int>(args.q.tokens);
  params.keys = static_cast<int>(args.k.tokens);
  params.heads = static_cast<int>(args.heads);
  params.query_tiles = (params.queries + kFlashQueries - 1) / kFlashQueries;
  params.key_tiles = (params.keys + F::kKeys - 1) / F::kKeys;
  params.count = static_cast<int>(args.batch) * params.heads * params.query_tiles;
  if (params.count == 0) return;
  constexpr int kSharedBytes = FlashShared<F>::kBytes + 1024;  // to begin at a multiple of 1024
  check(cudaFuncSetAttribute(flash_attention<F>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kSharedBytes),
        "take shared memory");
  const int blocks = std::min(multiprocessors(), params.count);
  flash_attention<F>
      <<<static_cast<unsigned>(blocks), kFlashThreads, kSharedBytes, stream>>>(params);
  check_launch("launch flash_attention");
}

}  // namespace dither::cuda
