#pragma once

#include <cstdint>

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/float8.cuh"
#include "backends/cuda/kernels/hopper.cuh"
#include "backends/cuda/kernels/projection.h"
#include "backends/cuda/kernels/value_blocks.cuh"

/// What becomes of the sums of a projection, 64 rows and 256 columns in a warpgroup's registers.
namespace dither::cuda::epilogue {

constexpr int kColumns = 256;  ///< of the product: two halves from different places of the weight
constexpr int kHalf = 128;

// A thread of a product holds, of every 8 columns, 2: the weight's rows come into shared memory in
// such an order that the 8 that a thread holds of 32 are neighbours, 16 bytes of a result. Row n of
// shared memory, n = 32 t + 8 h + 2 q + e, is the weight's row 32 t + 8 q + 2 h + e.
constexpr int kOrdered = 32;

using Norms = Bf16[2][kProjectedHeadDim];  // of q and of k

/// Which columns of a half a thread has: 8 from 32 t + 8 (lane % 4) on, of rows lane / 4 + 8 r.
struct Columns {
  int lane;
  __device__ int first(int t) const { return kOrdered * t + 8 * (lane % 4); }
};

/// Those 8 sums. All arguments but the array are compile-time constants where it is inlined.
__device__ inline void take(const float (&sums)[kColumns / 2], int half, int t, int r,
                            float (&v)[8]) {
#pragma unroll
  for (int j = 0; j < 8; ++j) v[j] = sums[(half * 16 + t * 4 + j / 2) * 4 + r * 2 + j % 2];
}

/// What a column of the product is multiplied by, and what is added.
__device__ inline float2 scale_and_bias(const ProjectionArgs& args, int n) {
  if (n >= args.n) return make_float2(0, 0);
  const auto* const bias = static_cast<const Bf16*>(args.bias);
  return make_float2(args.row_scales != nullptr ? args.row_scales[n] : args.alpha,
                     bias != nullptr ? to_f32(bias[n]) : 0.0F);
}

/// The same where all columns have one scale and none has a bias.
__device__ inline void scale_all(float (&sums)[kColumns / 2], float scale) {
#pragma unroll
  for (float& sum : sums) sum *= scale;
}

/// product * scale + bias, in place.
__device__ inline void finish(float (&sums)[kColumns / 2], const float2* columns_of_tile,
                              Columns columns) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int t = 0; t < kHalf / kOrdered; ++t) {
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        const float4 two =
            *reinterpret_cast<const float4*>(columns_of_tile + half * kHalf + columns.first(t) + j);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          float* const sum = &sums[(half * 16 + t * 4 + j / 2) * 4 + r * 2];
          sum[0] = fmaf(sum[0], two.x, two.y);
          sum[1] = fmaf(sum[1], two.z, two.w);
        }
      }
    }
  }
}

/// x * sigmoid(x), within 2^-21 of it.
__device__ inline float silu(float x) { return __fdividef(x, 1.0F + __expf(-x)); }

__device__ inline void store_bf16(const float (&v)[8], RowView to, std::int64_t offset) {
  store(v, reinterpret_cast<Bf16*>(to.data) + offset);
}

/// As store_codes() of rounded values, but every NaN becomes 0x7F.
__device__ inline void store_e4m3(const float (&v)[8], float reciprocal, RowView to,
                                  std::int64_t offset) {
  std::uint32_t words[2] = {};
#pragma unroll
  for (int j = 0; j < 8; j += 2) {
    words[j / 4] |=
        e4m3_pair(rounded<Bf16>(v[j]) * reciprocal, rounded<Bf16>(v[j + 1]) * reciprocal)
        << (8 * (j % 4));
  }
  *reinterpret_cast<uint2*>(reinterpret_cast<std::uint8_t*>(to.data) + offset) =
      make_uint2(words[0], words[1]);
}

__device__ inline void write_gated(const ProjectionArgs& args, const float (&sums)[kColumns / 2],
                                   int row, int column, Columns columns) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const std::int64_t y_row = row + 8 * r;
    if (y_row >= args.x.rows) continue;
#pragma unroll
    for (int t = 0; t < kHalf / kOrdered; ++t) {
      const std::int64_t y_column = column + columns.first(t);
      if (y_column >= args.gated) continue;
      float a[8];
      float b[8];
      take(sums, 0, t, r, a);
      take(sums, 1, t, r, b);
#pragma unroll
      for (int j = 0; j < 8; ++j) a[j] = silu(a[j]) * b[j];
      const std::int64_t offset = y_row * args.y.row_stride + y_column;
      if (args.y_reciprocal != 0) {
        store_e4m3(a, args.y_reciprocal, args.y, offset);
      } else {
        store_bf16(a, args.y, offset);
      }
    }
  }
}

/// 1 / rms of a head's row.
__device__ inline float norm_factor(const float (&sums)[kColumns / 2], int half, int r, float eps) {
  float squares = 0;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const float x = sums[(half * 16 + i / 2) * 4 + r * 2 + i % 2];
    squares = fmaf(x, x, squares);
  }
  return rsqrtf(sum_lanes(squares, 4) * (1.0F / kProjectedHeadDim) + eps);
}

/// The angles of a thread's two rows, and where these rows go.
struct Rows {
  float cos[2][4][4];  ///< row, t, pair
  float sin[2][4][4];
  int out[2];  ///< rows of q, k and v; negative: outside
};

__device__ inline void load_rows(const ProjectionArgs& args, int row, bool rotated, Columns columns,
                                 Rows& rows) {
  const auto tokens = static_cast<int>(args.tokens);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int x_row = row + 8 * r;
    const bool inside = x_row < args.x.rows;
    const int token = x_row % tokens;
    rows.out[r] = inside ? x_row / tokens * static_cast<int>(args.out_tokens) +
                               static_cast<int>(args.first_token) + token
                         : -1;
    if (!inside || !rotated) continue;
    const std::int64_t first = static_cast<std::int64_t>(token) * (kProjectedHeadDim / 2);
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      load(args.cos + first + columns.first(t) / 2, rows.cos[r][t]);
      load(args.sin + first + columns.first(t) / 2, rows.sin[r][t]);
    }
  }
}

/// One head of q or k.
__device__ inline void write_rotated(const ProjectionArgs& args, const float (&sums)[kColumns / 2],
                                     int half, RowView to, int column, const Bf16* norm,
                                     const Rows& rows, Columns columns) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float factor = norm_factor(sums, half, r, args.eps);
    if (rows.out[r] < 0) continue;
    const std::int64_t offset = rows.out[r] * to.row_stride + column;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      float v[8];
      float w[8];
      take(sums, half, t, r, v);
      load(norm + columns.first(t), w);
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        const float a = v[j] * factor * w[j];
        const float b = v[j + 1] * factor * w[j + 1];
        const float cos = rows.cos[r][t][j / 2];
        const float sin = rows.sin[r][t][j / 2];
        v[j] = a * cos - b * sin;
        v[j + 1] = b * cos + a * sin;
      }
      if (args.codes) {
        store_e4m3(v, 1.0F, to, offset + columns.first(t));
      } else {
        store_bf16(v, to, offset + columns.first(t));
      }
    }
  }
}

/// One head of v. Returns its largest magnitude in this thread.
__device__ inline float write_values(const ProjectionArgs& args, const float (&sums)[kColumns / 2],
                                     int half, int column, const Rows& rows, Columns columns) {
  float largest = 0;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (rows.out[r] < 0) continue;
    const std::int64_t offset = rows.out[r] * args.v.row_stride + column;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      float v[8];
      take(sums, half, t, r, v);
#pragma unroll
      for (int j = 0; j < 8; ++j) largest = fmaxf(largest, fabsf(v[j]));
      store_bf16(v, args.v, offset + columns.first(t));
    }
  }
  return rounded<Bf16>(largest);
}

/// The warpgroup's 64 rows.
struct Group {
  int warpgroup;
  int warp;  ///< of the warpgroup
  int row;   ///< the first
};

/// One head of v as a block of values: its 64 keys are the warpgroup's rows. `scratch` has room for
/// a number per warp.
__device__ inline void write_block(const ProjectionArgs& args, const float (&sums)[kColumns / 2],
                                   int half, int head, const Rows& rows, Columns columns,
                                   const Group& group, float* scratch) {
  float largest = 0;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (rows.out[r] < 0) continue;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      largest = fmaxf(largest, fabsf(sums[(half * 16 + i / 2) * 4 + r * 2 + i % 2]));
    }
  }
  largest = max_lanes(rounded<Bf16>(largest), 32);
  if (columns.lane == 0) scratch[group.warp] = largest;
  sync_warpgroup(group.warpgroup);
  if (group.row >= args.x.rows) return;
  largest = fmaxf(fmaxf(scratch[0], scratch[1]), fmaxf(scratch[2], scratch[3]));
  const float4 scales = value_scales(largest);
  const float reciprocal = scales.y;
  const auto tokens = static_cast<int>(args.tokens);
  const std::int64_t of_head = group.row / tokens * args.heads + head;
  const std::int64_t block =
      of_head * args.v_blocks.blocks +
      (static_cast<int>(args.first_token) + group.row % tokens) / static_cast<int>(kValueBlockKeys);
  if (group.warp == 0 && columns.lane == 0) {
    reinterpret_cast<float4*>(args.v_blocks.scales)[block] = scales;
  }
  std::uint8_t* const codes = args.v_blocks.codes + block * kValueBlockBytes;
  const int key = columns.lane / 4;  // of 8; the thread has key + 8, too
#pragma unroll
  for (int t = 0; t < kHalf / kOrdered; ++t) {
    float v[2][8];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      take(sums, half, t, r, v[r]);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        v[r][j] = rows.out[r] < 0 ? 0.0F : rounded<Bf16>(v[r][j]) * reciprocal;
      }
    }
    // Of two channels, the keys (even, odd) of both r in the block's order: an even lane keeps the
    // first channel and has the odd keys from its neighbour, an odd lane the second.
    std::uint32_t words[4];
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      const auto keys_of = [&](int channel) { return e4m3_pair(v[0][channel], v[1][channel]); };
      const std::uint32_t own = keys_of(j) | keys_of(j + 1) << 16U;
      const std::uint32_t other = __shfl_xor_sync(0xFFFFFFFFU, own, 4);
      words[j / 2] =
          key % 2 == 0 ? __byte_perm(own, other, 0x5140) : __byte_perm(own, other, 0x3726);
    }
    transpose(words, columns.lane, 8);
    const int channel = columns.first(t) + key;
    *reinterpret_cast<uint4*>(codes + value_offset(channel, group.warp)) =
        make_uint4(words[0], words[1], words[2], words[3]);
  }
}

/// Two heads of q, k or v. `norms` are those of q and k, `scratch` has room for 8 numbers.
__device__ inline void write_heads(const ProjectionArgs& args, const float (&sums)[kColumns / 2],
                                   int first_head, const Norms& norms, const Rows& rows,
                                   Columns columns, const Group& group, float* scratch) {
  const auto heads = static_cast<int>(args.heads);
  float largest = 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int head = first_head + half;
    const int part = head / heads;
    const int column = head % heads * static_cast<int>(kProjectedHeadDim);
    if (part < 2) {
      write_rotated(args, sums, half, part == 0 ? args.q : args.k, column, norms[part], rows,
                    columns);
    } else if (part == 2 && args.v_blocks.codes != nullptr) {
      write_block(args, sums, half, head % heads, rows, columns, group, scratch + 4 * half);
    } else if (part == 2) {
      largest = fmaxf(largest, write_values(args, sums, half, column, rows, columns));
    }
  }
  if (args.v_largest == nullptr || first_head + 1 < 2 * heads) return;
  largest = max_lanes(largest, 32);
  // Floats that are not negative order like their bits.
  if (columns.lane == 0 && largest > 0) {
    atomicMax(reinterpret_cast<unsigned*>(args.v_largest), __float_as_uint(largest));
  }
}

}  // namespace dither::cuda::epilogue
