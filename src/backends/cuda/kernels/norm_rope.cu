#include <algorithm>
#include <cmath>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/float8.cuh"
#include "backends/cuda/kernels/norm_rope.h"

namespace dither::cuda {
namespace {

constexpr int kThreads = 128;

/// What a group of lanes works on: one head of q, k or v of one token.
struct Head {
  std::int64_t row;  ///< of qkv
  int part;          ///< 0 q, 1 k, 2 v
  int head;
};

__device__ RowView target_of(const NormRopeArgs& args, int part) {
  return part == 0 ? args.q : part == 1 ? args.k : args.v;
}

template <typename T, int V>
__device__ void write(const NormRopeArgs& args, const Head& at, std::int64_t channel,
                      float (&v)[V]) {
  const RowView target = target_of(args, at.part);
  const std::int64_t sample = at.row / args.tokens;
  const std::int64_t row = sample * args.out_tokens + args.first_token + at.row % args.tokens;
  const std::int64_t offset = row * target.row_stride + at.head * args.head_dim + channel;
  if (!args.codes) {
    store(v, reinterpret_cast<T*>(target.data) + offset);
    return;
  }
#pragma unroll
  for (int j = 0; j < V; ++j) v[j] = rounded<T>(v[j]);
  store_codes(v, at.part == 2 ? *args.v_reciprocal : 1.0F,
              reinterpret_cast<std::uint8_t*>(target.data) + offset);
}

/// V channels of a head, normalised and rotated: `factor` is 1 / rms of the whole head.
template <typename T, int V>
__device__ void normalize_and_rotate(float (&v)[V], float factor, const T* weight,
                                     const float (&cos)[V / 2], const float (&sin)[V / 2]) {
  float w[V];
  load(weight, w);
#pragma unroll
  for (int j = 0; j < V; j += 2) {
    const float a = v[j] * factor * w[j];
    const float b = v[j + 1] * factor * w[j + 1];
    v[j] = a * cos[j / 2] - b * sin[j / 2];
    v[j + 1] = b * cos[j / 2] + a * sin[j / 2];
  }
}

template <int V>
__device__ float sum_of_squares(const float (&v)[V]) {
  float squares = 0;
#pragma unroll
  for (int j = 0; j < V; ++j) squares += v[j] * v[j];
  return squares;
}

/// Each lane has V channels of one head's q and k, which share their angles; kGroup lanes have all
/// of them. blockIdx.x is the row, blockIdx.y cuts the heads.
template <typename T, int V, int kGroup>
__global__ void __launch_bounds__(kThreads) norm_rope_lanes(NormRopeArgs args) {
  constexpr int kGroups = kThreads / kGroup;
  const int heads = static_cast<int>(args.heads);
  const int index = static_cast<int>(blockIdx.y) * kGroups + static_cast<int>(threadIdx.x) / kGroup;
  const bool inside = index < heads;  // lanes outside take part in the shuffles
  const int head = inside ? index : 0;
  const int channel = static_cast<int>(threadIdx.x) % kGroup * V;
  const std::int64_t row = blockIdx.x;
  const std::int64_t part = args.heads * args.head_dim;
  const T* const x = reinterpret_cast<const T*>(args.qkv.data) + row * args.qkv.row_stride +
                     head * args.head_dim + channel;
  float q[V];
  float k[V];
  float cos[V / 2];
  float sin[V / 2];
  load(x, q);
  load(x + part, k);
  const std::int64_t angles = row % args.tokens * (args.head_dim / 2) + channel / 2;
  load(args.cos + angles, cos);
  load(args.sin + angles, sin);
  const auto count = static_cast<float>(args.head_dim);
  const float q_factor = rsqrtf(sum_lanes(sum_of_squares(q), kGroup) / count + args.eps);
  const float k_factor = rsqrtf(sum_lanes(sum_of_squares(k), kGroup) / count + args.eps);
  if (!inside) return;
  normalize_and_rotate(q, q_factor, static_cast<const T*>(args.q_norm) + channel, cos, sin);
  normalize_and_rotate(k, k_factor, static_cast<const T*>(args.k_norm) + channel, cos, sin);
  write<T, V>(args, {row, 0, head}, channel, q);
  write<T, V>(args, {row, 1, head}, channel, k);
  if (args.v.data == nullptr) return;
  float v[V];
  load(x + 2 * part, v);
  write<T, V>(args, {row, 2, head}, channel, v);
}

/// Any even head_dim and alignment: a warp per head.
template <typename T>
__global__ void __launch_bounds__(kThreads) norm_rope_any(NormRopeArgs args, int parts) {
  const int index =
      static_cast<int>(blockIdx.y) * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int heads = static_cast<int>(args.heads);
  if (index >= parts * heads) return;  // whole warps
  const Head at{static_cast<std::int64_t>(blockIdx.x), index / heads, index % heads};
  const T* const x = reinterpret_cast<const T*>(args.qkv.data) + at.row * args.qkv.row_stride +
                     (static_cast<std::int64_t>(at.part) * heads + at.head) * args.head_dim;
  if (at.part == 2) {
    for (std::int64_t c = lane; c < args.head_dim; c += 32) {
      float v[1] = {to_f32(x[c])};
      write<T, 1>(args, at, c, v);
    }
    return;
  }
  const T* const weight = static_cast<const T*>(at.part == 0 ? args.q_norm : args.k_norm);
  const float* const cos = args.cos + at.row % args.tokens * (args.head_dim / 2);
  const float* const sin = args.sin + at.row % args.tokens * (args.head_dim / 2);
  float squares = 0;
  for (std::int64_t c = lane; c < args.head_dim; c += 32) squares += to_f32(x[c]) * to_f32(x[c]);
  squares = sum_lanes(squares, 32);
  const float factor = rsqrtf(squares / static_cast<float>(args.head_dim) + args.eps);
  for (std::int64_t i = lane; i < args.head_dim / 2; i += 32) {
    const float a = to_f32(x[2 * i]) * factor * to_f32(weight[2 * i]);
    const float b = to_f32(x[2 * i + 1]) * factor * to_f32(weight[2 * i + 1]);
    float even[1] = {a * cos[i] - b * sin[i]};
    float odd[1] = {b * cos[i] + a * sin[i]};
    write<T, 1>(args, at, 2 * i, even);
    write<T, 1>(args, at, 2 * i + 1, odd);
  }
}

/// q, k or v of one token, all its heads: what the blocks of blockIdx = (row, part) work on.
template <typename T>
__device__ const T* part_of_row(const NormRopeArgs& args, int part) {
  return reinterpret_cast<const T*>(args.qkv.data) +
         static_cast<std::int64_t>(blockIdx.x) * args.qkv.row_stride +
         part * args.heads * args.head_dim;
}

/// A token's q or k in the registers of a block; v passes through. Vector i of a thread is column
/// (i * kThreads + threadIdx.x) * V.
template <typename T, int V, int kHeld>
__global__ void __launch_bounds__(kThreads) norm_rope_row(NormRopeArgs args) {
  __shared__ float scratch[32];
  const int part = static_cast<int>(blockIdx.y);
  const std::int64_t row = blockIdx.x;
  const int head_dim = static_cast<int>(args.head_dim);
  const int cols = static_cast<int>(args.heads) * head_dim;
  const T* const x = part_of_row<T>(args, part);
  float held[kHeld][V];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int col = (i * kThreads + static_cast<int>(threadIdx.x)) * V;
    if (col < cols) {
      load(x + col, held[i]);
      squares += sum_of_squares(held[i]);
    }
  }
  const bool normed = part != 2;
  float factor = 1;
  if (normed) {
    factor = rsqrtf(sum_block(squares, scratch) / static_cast<float>(cols) + args.eps);
  }
  const T* const weight = static_cast<const T*>(part == 0 ? args.q_norm : args.k_norm);
  const std::int64_t angles = row % args.tokens * (head_dim / 2);
  float cos[V / 2];
  float sin[V / 2];
  int loaded = -1;  // the channel whose angles are at hand: the same for all i in usual heads
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int col = (i * kThreads + static_cast<int>(threadIdx.x)) * V;
    if (col >= cols) continue;
    const int channel = col % head_dim;
    if (normed) {
      if (channel != loaded) {
        load(args.cos + angles + channel / 2, cos);
        load(args.sin + angles + channel / 2, sin);
        loaded = channel;
      }
      normalize_and_rotate(held[i], factor, weight + col, cos, sin);
    }
    write<T, V>(args, {row, part, 0}, col, held[i]);
  }
}

/// The same for any even head_dim, width and alignment: a pair of channels at a time, read twice.
template <typename T>
__global__ void __launch_bounds__(kThreads) norm_rope_row_any(NormRopeArgs args) {
  __shared__ float scratch[32];
  const int part = static_cast<int>(blockIdx.y);
  const std::int64_t row = blockIdx.x;
  const std::int64_t cols = args.heads * args.head_dim;
  const T* const x = part_of_row<T>(args, part);
  const std::int64_t first = static_cast<std::int64_t>(threadIdx.x) * 2;
  constexpr std::int64_t kStep = kThreads * 2;
  float factor = 1;
  if (part != 2) {
    float squares = 0;
    for (std::int64_t col = first; col < cols; col += kStep) {
      float v[2];
      load(x + col, v);
      squares += sum_of_squares(v);
    }
    factor = rsqrtf(sum_block(squares, scratch) / static_cast<float>(cols) + args.eps);
  }
  const T* const weight = static_cast<const T*>(part == 0 ? args.q_norm : args.k_norm);
  for (std::int64_t col = first; col < cols; col += kStep) {
    float v[2];
    load(x + col, v);
    if (part != 2) {
      const std::int64_t angle = (row % args.tokens * args.head_dim + col % args.head_dim) / 2;
      const float cos[1] = {args.cos[angle]};
      const float sin[1] = {args.sin[angle]};
      normalize_and_rotate(v, factor, weight + col, cos, sin);
    }
    float even[1] = {v[0]};
    float odd[1] = {v[1]};
    write<T, 1>(args, {row, part, 0}, col, even);
    write<T, 1>(args, {row, part, 0}, col + 1, odd);
  }
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) largest_magnitude(RowView x, float* largest) {
  __shared__ float scratch[32];
  float found = 0;
  for (std::int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
    const T* const values = reinterpret_cast<const T*>(x.data) + row * x.row_stride;
    for (std::int64_t col = threadIdx.x * V; col < x.cols; col += kThreads * V) {
      float v[V];
      load(values + col, v);
#pragma unroll
      for (int j = 0; j < V; ++j) found = fmaxf(found, fabsf(v[j]));
    }
  }
  found = max_block(found, scratch);
  // Floats that are not negative order like their bits.
  if (threadIdx.x == 0) atomicMax(reinterpret_cast<unsigned*>(largest), __float_as_uint(found));
}

__global__ void e4m3_scales(const float* largest, float* scale, float* reciprocal) {
  const bool usable = *largest > 0 && *largest < INFINITY;
  *scale = usable ? *largest / 448.0F : 1.0F;
  *reciprocal = usable ? 448.0F / *largest : 1.0F;
}

bool rows_fit(const RowView& view, std::int64_t bytes) {
  return view.data == nullptr || (reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
                                  view.row_stride * bytes % 16 == 0);
}

bool fits(const NormRopeArgs& args, std::int64_t bytes) {
  const std::int64_t result = args.codes ? 1 : bytes;
  const std::int64_t weights = args.head_dim * (args.across_heads ? args.heads : 1);
  return rows_fit(args.qkv, bytes) && rows_fit(args.q, result) && rows_fit(args.k, result) &&
         rows_fit(args.v, result) && args.head_dim * bytes % 16 == 0 &&
         vectors_fit(args.q_norm, 0, weights, bytes) &&
         vectors_fit(args.k_norm, 0, weights, bytes) &&
         // 4 or 2 angles at a time; 16 bytes only where their rows are 16-byte multiples
         vectors_fit(args.cos, args.head_dim / 2, args.head_dim / 2, sizeof(float)) &&
         vectors_fit(args.sin, args.head_dim / 2, args.head_dim / 2, sizeof(float));
}

/// True when the head's lanes are a group that shuffles can sum; launches then.
template <typename T>
bool launch_lanes(const NormRopeArgs& args, cudaStream_t stream) {
  constexpr int V = kLanes<T>;
  if (!fits(args, sizeof(T))) return false;
  const auto launch = [&](auto group) {
    const dim3 grid(static_cast<unsigned>(args.qkv.rows),
                    blocks_for(args.heads, kThreads / group.value));
    norm_rope_lanes<T, V, group.value><<<grid, kThreads, 0, stream>>>(args);
    return true;
  };
  switch (args.head_dim / V) {
    case 4:
      return launch(std::integral_constant<int, 4>());
    case 8:
      return launch(std::integral_constant<int, 8>());
    case 16:
      return launch(std::integral_constant<int, 16>());
    case 32:
      return launch(std::integral_constant<int, 32>());
    default:
      return false;
  }
}

/// All heads of a token together.
template <typename T>
void launch_row(const NormRopeArgs& args, int parts, cudaStream_t stream) {
  constexpr int V = kLanes<T>;
  const dim3 grid(static_cast<unsigned>(args.qkv.rows), static_cast<unsigned>(parts));
  const auto launch = [&](auto held) {
    norm_rope_row<T, V, held.value><<<grid, kThreads, 0, stream>>>(args);
  };
  const unsigned held = blocks_for(args.heads * args.head_dim, kThreads * V);
  if (!fits(args, sizeof(T)) || held > 8) {
    norm_rope_row_any<T><<<grid, kThreads, 0, stream>>>(args);
  } else if (held <= 1) {
    launch(std::integral_constant<int, 1>());
  } else if (held <= 2) {
    launch(std::integral_constant<int, 2>());
  } else if (held <= 3) {
    launch(std::integral_constant<int, 3>());
  } else if (held <= 5) {  // 24 and 40 heads of 128: bf16
    launch(std::integral_constant<int, 5>());
  } else {
    launch(std::integral_constant<int, 8>());
  }
}

}  // namespace

void launch_norm_rope(const NormRopeArgs& args, cudaStream_t stream) {
  if (args.qkv.rows == 0) return;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    const int parts = args.v.data == nullptr ? 2 : 3;
    if (args.across_heads) return launch_row<T>(args, parts, stream);
    if (launch_lanes<T>(args, stream)) return;
    const dim3 grid(static_cast<unsigned>(args.qkv.rows),
                    blocks_for(parts * args.heads, kThreads / 32));
    norm_rope_any<T><<<grid, kThreads, 0, stream>>>(args, parts);
  });
  check_launch("launch norm_rope");
}

void launch_largest_magnitude(const RowView& x, DType dtype, float* largest, cudaStream_t stream) {
  if (x.rows == 0 || x.cols == 0) return;
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(x.rows, 132 * 8));
  with_element(dtype, [&](auto element) {
    using T = decltype(element);
    if (vectors_fit(x.data, x.row_stride, x.cols, sizeof(T))) {
      largest_magnitude<T, kLanes<T>><<<blocks, kThreads, 0, stream>>>(x, largest);
    } else {
      largest_magnitude<T, 1><<<blocks, kThreads, 0, stream>>>(x, largest);
    }
  });
  check_launch("launch largest_magnitude");
}

void launch_e4m3_scales(const float* largest, float* scale, float* reciprocal,
                        cudaStream_t stream) {
  e4m3_scales<<<1, 1, 0, stream>>>(largest, scale, reciprocal);
  check_launch("launch e4m3_scales");
}

}  // namespace dither::cuda
