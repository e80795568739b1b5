#include "backends/cuda/kernels/flash_attention.cuh"

namespace dither::cuda {
namespace {

struct E4m3Format {
  struct Source {
    CUtensorMap q, k;
    ValueBlocks v;
  };
  using Params = FlashParams<E4m3Format>;

  static constexpr int kBlocks = static_cast<int>(kValueBlocksOfTile);
  static constexpr int kKeys = kBlocks * static_cast<int>(kValueBlockKeys);
  static constexpr int kStages = 3;
  /// Results come out 0.3 to 0.6 % too small; 8 would be 2 % faster, and twice as far off.
  static constexpr int kTilesOfSums = 4;
  static constexpr int kQueryBytes = kFlashQueries * kFlashDim;
  static constexpr int kValueBytes = kBlocks * static_cast<int>(kValueBlockBytes);
  static constexpr int kScaleBytes = kBlocks * static_cast<int>(kValueScales) * 4;
  static constexpr int kKeyBytes = kKeys * kFlashDim;
  static constexpr int kScaleRoom = 64;

  using Scores = float[kKeys / 2];
  using Probabilities = std::uint32_t[kKeys / 8];  // four codes each
  struct Scales {
    float2 of[kBlocks];  ///< log2 of it, its reciprocal
  };

  __device__ static std::int64_t block(const Params& p, int j, const FlashTile& tile) {
    return (static_cast<std::int64_t>(tile.batch) * p.heads + tile.head) * p.from.v.blocks +
           j * kBlocks;
  }
  __device__ static void fetch_queries(const Params& p, std::byte* to, std::uint64_t* full,
                                       const FlashTile& tile) {
    arrive_and_expect(full, kQueryBytes);
    load_box(to, p.from.q, full, 0, tile.query, tile.head, tile.batch);
  }
  __device__ static void fetch_keys(const Params& p, std::byte* to, std::byte* scales,
                                    std::uint64_t* full, int j, const FlashTile& tile) {
    arrive_and_expect(full, kKeyBytes + kScaleBytes);
    load_box(to, p.from.k, full, 0, j * kKeys, tile.head, tile.batch);
    load_bytes(scales, p.from.v.scales + block(p, j, tile) * kValueScales, kScaleBytes, full);
  }
  __device__ static void fetch_values(const Params& p, std::byte* to, std::uint64_t* full, int j,
                                      const FlashTile& tile) {
    arrive_and_expect(full, kValueBytes);
    load_bytes(to, p.from.v.codes + block(p, j, tile) * kValueBlockBytes, kValueBytes, full);
  }

  __device__ static void begin_scores(const std::byte* queries, const std::byte* keys,
                                      int warpgroup, Scores& scores) {
    const std::uint64_t q = matrix_descriptor(queries + warpgroup * (kQueryBytes / 2));
    const std::uint64_t k = matrix_descriptor(keys);
#pragma unroll
    for (int step = 0; step < kFlashDim / 32; ++step) {
      multiply_e4m3(scores, q + 2 * step, k + 2 * step, step > 0);
    }
    commit_products();
  }

  __device__ static void begin_sums(const std::byte* values, const Probabilities& probabilities,
                                    bool add, FlashSums& sums) {
    const std::uint64_t v = narrow_descriptor(values);
#pragma unroll
    for (int step = 0; step < kKeys / 32; ++step) {
      multiply_e4m3(sums, probabilities + 4 * step,
                    v + step / 2 * (kValueBlockBytes / 16) + step % 2 * 2, add || step > 0);
    }
    commit_products();
  }

  __device__ static Scales read_scales(const std::byte* from) {
    Scales scales;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      scales.of[b] = *reinterpret_cast<const float2*>(from + 16 * b);
    }
    return scales;
  }

  __device__ static float exponent(float difference, float /*scale_log2*/) { return difference; }

  /// Scores become 448 2^(score + log2 of the block's scale - the largest such): codes of all
  /// blocks are summed as they are. softmax.total is of the same numbers divided by their block's
  /// scale.
  __device__ static void exponentiate(Scores& scores, const Scales& scales, float scale_log2,
                                      Softmax& softmax, float (&factors)[2]) {
    constexpr float kLog2Of448 = 8.807354922057604F;
    constexpr int kOfBlock = kKeys / 4 / kBlocks;  // of a row, in a thread
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const auto at = [&](int b, int i) -> float& {
        return scores[(b * kOfBlock + i) / 2 * 4 + 2 * r + i % 2];
      };
      float largest = softmax.largest[r];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        float of_block = at(b, 0);
#pragma unroll
        for (int i = 1; i < kOfBlock; ++i) of_block = fmaxf(of_block, at(b, i));
        largest = fmaxf(largest, fmaf(of_block, scale_log2, scales.of[b].x));
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 2));
      factors[r] = exp2_fast(softmax.largest[r] - largest);
      softmax.largest[r] = largest;
      softmax.total[r] *= factors[r];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const float offset = scales.of[b].x - largest + kLog2Of448;
        float total = 0;
#pragma unroll
        for (int i = 0; i < kOfBlock; ++i) {
          float& score = at(b, i);
          score = exp2_fast(fmaf(score, scale_log2, offset));
          total += score;
        }
        softmax.total[r] = fmaf(total, scales.of[b].y, softmax.total[r]);
      }
    }
  }

  /// Codes in the order of ValueBlocks.
  __device__ static void round(const Scores& scores, Probabilities& probabilities) {
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
      // Of 32 keys: 16 keys of row r = 0, then of r = 1, then the other 16 keys.
      const int first = i / 4 * 16 + i % 4 / 2 * 8 + i % 2 * 2;
      probabilities[i] = e4m3_pair(scores[first], scores[first + 1]) |
                         e4m3_pair(scores[first + 4], scores[first + 5]) << 16U;
    }
  }
};

}  // namespace

std::int64_t flash_piece_bytes_e4m3(const FlashAttentionArgs& args) {
  return piece_bytes_of<E4m3Format>(args);
}

void launch_flash_attention_e4m3(const FlashAttentionArgs& args, const ValueBlocks& v,
                                 cudaStream_t stream) {
  run_flash_attention<E4m3Format>(
      args,
      {.q = map_of_heads(DType::kF8E4M3, args.q, args, kFlashQueries),
       .k = map_of_heads(DType::kF8E4M3, args.k, args, E4m3Format::kKeys),
       .v = v},
      stream);
}

}  // namespace dither::cuda
