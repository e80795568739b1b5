#include "backends/cuda/kernels/flash_attention.cuh"
#include "backends/cuda/multiprocessors.h"

namespace dither::cuda {
namespace {

struct Bf16Format {
  struct Source {
    CUtensorMap q, k, v;
  };
  using Params = FlashParams<Bf16Format>;

  static constexpr int kKeys = 176;  ///< the most whose scores fit in registers beside the rest
  static constexpr int kStages = 2;
  static constexpr int kTilesOfSums = 0;
  static constexpr int kScaleRoom = 0;
  // 128 channels lie in two chunks of 64, each with rows of 128 bytes.
  static constexpr int kChunk = 64;
  static constexpr int kQueryChunkBytes = kFlashQueries * 128;
  static constexpr int kKeyChunkBytes = kKeys * 128;
  static constexpr int kQueryBytes = 2 * kQueryChunkBytes;
  static constexpr int kKeyBytes = 2 * kKeyChunkBytes;
  static constexpr int kValueBytes = kKeyBytes;

  using Scores = float[kKeys / 2];
  using Probabilities = std::uint32_t[kKeys / 4];  // pairs of bf16
  struct Scales {};

  __device__ static void fetch_chunks(const CUtensorMap& map, std::byte* to, int chunk_bytes,
                                      std::uint64_t* full, int token, const FlashTile& tile) {
    arrive_and_expect(full, 2 * chunk_bytes);
    load_box(to, map, full, 0, token, tile.head, tile.batch);
    load_box(to + chunk_bytes, map, full, kChunk, token, tile.head, tile.batch);
  }
  __device__ static void fetch_queries(const Params& p, std::byte* to, std::uint64_t* full,
                                       const FlashTile& tile) {
    fetch_chunks(p.from.q, to, kQueryChunkBytes, full, tile.query, tile);
  }
  __device__ static void fetch_keys(const Params& p, std::byte* to, std::byte* /*scales*/,
                                    std::uint64_t* full, int j, const FlashTile& tile) {
    fetch_chunks(p.from.k, to, kKeyChunkBytes, full, j * kKeys, tile);
  }
  __device__ static void fetch_values(const Params& p, std::byte* to, std::uint64_t* full, int j,
                                      const FlashTile& tile) {
    fetch_chunks(p.from.v, to, kKeyChunkBytes, full, j * kKeys, tile);
  }

  __device__ static void begin_scores(const std::byte* queries, const std::byte* keys,
                                      int warpgroup, Scores& scores) {
    const std::uint64_t q = matrix_descriptor(queries + warpgroup * (kQueryChunkBytes / 2));
    const std::uint64_t k = matrix_descriptor(keys);
#pragma unroll
    for (int step = 0; step < kFlashDim / 16; ++step) {
      const int chunk = step / 4;
      multiply_bf16(scores, q + chunk * (kQueryChunkBytes / 16) + step % 4 * 2,
                    k + chunk * (kKeyChunkBytes / 16) + step % 4 * 2, step > 0);
    }
    commit_products();
  }

  __device__ static void begin_sums(const std::byte* values, const Probabilities& probabilities,
                                    bool add, FlashSums& sums) {
    const std::uint64_t v = mn_descriptor(values, kKeyChunkBytes);
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      multiply_bf16(sums, probabilities + 4 * step, v + step * (16 * 128 / 16), add || step > 0);
    }
    commit_products();
  }

  __device__ static Scales read_scales(const std::byte* /*from*/) { return {}; }

  __device__ static float exponent(float of_scores, float scale_log2) {
    return of_scores * scale_log2;
  }

  /// Scores become exponentials; returns in `factors` what everything before is multiplied by.
  __device__ static void exponentiate(Scores& scores, Scales /*scales*/, float scale_log2,
                                      Softmax& softmax, float (&factors)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = softmax.largest[r];
#pragma unroll
      for (int i = 0; i < kKeys / 4; ++i) {
        largest = fmaxf(largest, scores[i / 2 * 4 + 2 * r + i % 2]);
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 2));
      factors[r] = exp2_fast(exponent(softmax.largest[r] - largest, scale_log2));
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
  __device__ static void round(const Scores& scores, Probabilities& probabilities) {
#pragma unroll
    for (int i = 0; i < kKeys / 4; ++i) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(scores[2 * i], scores[2 * i + 1]);
      probabilities[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
    }
  }
};

bool view_fits(const HeadsView& view, std::int64_t multiple) {
  return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
         view.token_stride % multiple == 0 && view.head_stride % multiple == 0 &&
         view.batch_stride % multiple == 0;
}

}  // namespace

bool flash_attention_fits(const FlashAttentionArgs& args, DType element) {
  const std::int64_t multiple = 128 / dtype_bits(element);
  const std::uintptr_t alignment = args.y_reciprocal == 0 ? 16 : 8;
  return view_fits(args.q, multiple) && view_fits(args.k, multiple) && args.scale > 0 &&
         reinterpret_cast<std::uintptr_t>(args.y.data) % alignment == 0 &&
         args.y.row_stride % 8 == 0;
}

std::int64_t flash_piece_bytes(const FlashAttentionArgs& args) {
  return piece_bytes_of<Bf16Format>(args);
}

std::int64_t flash_counters() { return std::int64_t{multiprocessors()} * kFlashWarps; }

bool flash_values_fit(const HeadsView& v) { return view_fits(v, 8); }

void launch_flash_attention(const FlashAttentionArgs& args, const HeadsView& v,
                            cudaStream_t stream) {
  const auto map = [&](const HeadsView& view, int tokens) {
    return map_of_heads(DType::kBF16, view, args, tokens);
  };
  run_flash_attention<Bf16Format>(args,
                                  {.q = map(args.q, kFlashQueries),
                                   .k = map(args.k, Bf16Format::kKeys),
                                   .v = map(v, Bf16Format::kKeys)},
                                  stream);
}

}  // namespace dither::cuda
