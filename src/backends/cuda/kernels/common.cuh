#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "ops/types.h"
#include "tensor/dtype.h"

/// What the kernels share: elements as float32, 16-byte vectors of them, sums over warps and
/// blocks.
namespace dither::cuda {

using Bf16 = __nv_bfloat16;

__device__ inline float to_f32(float value) { return value; }
__device__ inline float to_f32(Bf16 value) { return __bfloat162float(value); }

template <typename T>
__device__ inline T from_f32(float value) {
  if constexpr (sizeof(T) == 4) {
    return value;
  } else {
    return __float2bfloat16_rn(value);
  }
}

/// A float32 rounded to T.
template <typename T>
__device__ inline float rounded(float value) {
  return to_f32(from_f32<T>(value));
}

/// Elements of T in 16 bytes.
template <typename T>
inline constexpr int kLanes = 16 / static_cast<int>(sizeof(T));

/// What lies in 16 bytes as float32.
template <typename T>
__device__ inline void unpack(const uint4& raw, float (&values)[kLanes<T>]) {
  const T* const elements = reinterpret_cast<const T*>(&raw);
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) values[i] = to_f32(elements[i]);
}

/// V consecutive elements as float32: 16-byte accesses where they fill such, plain loads else.
template <int V, typename T>
__device__ inline void load(const T* from, float (&values)[V]) {
  if constexpr (V * sizeof(T) % 16 == 0) {
#pragma unroll
    for (int first = 0; first < V; first += kLanes<T>) {
      const uint4 raw = *reinterpret_cast<const uint4*>(from + first);
      const T* const elements = reinterpret_cast<const T*>(&raw);
#pragma unroll
      for (int i = 0; i < kLanes<T>; ++i) values[first + i] = to_f32(elements[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] = to_f32(from[i]);
  }
}

template <int V, typename T>
__device__ inline void store(const float (&values)[V], T* to) {
  if constexpr (V * sizeof(T) == 16) {
    uint4 raw;
    T* const elements = reinterpret_cast<T*>(&raw);
#pragma unroll
    for (int i = 0; i < V; ++i) elements[i] = from_f32<T>(values[i]);
    *reinterpret_cast<uint4*>(to) = raw;
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] = from_f32<T>(values[i]);
  }
}

__device__ inline float apply(ops::Activation activation, float x) {
  switch (activation) {
    case ops::Activation::kSilu:
      return x / (1.0F + expf(-x));
    case ops::Activation::kGeluTanh:
      return 0.5F * x * (1.0F + tanhf(0.7978845608028654F * (x + 0.044715F * x * x * x)));
    case ops::Activation::kQuickGelu:
      return x / (1.0F + expf(-1.702F * x));
    default:
      return x;
  }
}

/// x / (1 + e^-x) by the instructions for 2^x and 1/x alone: off by at most 2^-16 of the result.
__device__ inline float fast_silu(float x) {
  float power;
  float sigmoid;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.4426950408889634F));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(sigmoid) : "f"(1.0F + power));
  return x * sigmoid;
}

/// apply() to values that are rounded to T next: to bf16 by up to 2^-9, in which fast_silu()'s
/// error is not seen.
template <typename T, int V>
__device__ inline void apply_before_rounding(ops::Activation activation, float (&values)[V]) {
  if (sizeof(T) == 2 && activation == ops::Activation::kSilu) {
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] = fast_silu(values[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < V; ++i) values[i] = apply(activation, values[i]);
}

/// The sum over `width` neighbouring lanes, a power of two; every lane gets it.
__device__ inline float sum_lanes(float value, int width) {
  for (int offset = width / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, offset, 32);
  }
  return value;
}

/// Likewise the largest; a NaN does not count.
__device__ inline float max_lanes(float value, int width) {
  for (int offset = width / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFU, value, offset, 32));
  }
  return value;
}

/// Of 4 words each in 4 lanes, those that are `stride` apart, a power of two: lane i of them gets
/// word i of each, in the order of lanes.
__device__ inline void transpose(std::uint32_t (&words)[4], int lane, int stride) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool high = (lane & (bit * stride)) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) != 0) continue;
      std::uint32_t& low_word = words[i];
      std::uint32_t& high_word = words[i | bit];
      const std::uint32_t received =
          __shfl_xor_sync(0xFFFFFFFFU, high ? low_word : high_word, bit * stride);
      (high ? low_word : high_word) = received;
    }
  }
}

/// The sum over a block of up to 1024 threads, in a fixed order; every thread gets it. `scratch`
/// holds 32 floats.
__device__ inline float sum_block(float value, float* scratch) {
  value = sum_lanes(value, 32);
  const int warps = static_cast<int>((blockDim.x + 31) / 32);
  __syncthreads();  // scratch may still be read from the sum before
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < warps; ++i) total += scratch[i];
  return total;
}

__device__ inline float max_block(float value, float* scratch) {
  value = max_lanes(value, 32);
  const int warps = static_cast<int>((blockDim.x + 31) / 32);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  float largest = scratch[0];
  for (int i = 1; i < warps; ++i) largest = fmaxf(largest, scratch[i]);
  return largest;
}

/// True when rows of a matrix can be read 16 bytes at a time.
inline bool vectors_fit(const void* data, std::int64_t row_stride, std::int64_t cols,
                        std::int64_t element_bytes) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && row_stride * element_bytes % 16 == 0 &&
         cols * element_bytes % 16 == 0;
}

/// Calls f with a value of the element type.
template <typename F>
void with_element(DType dtype, const F& f) {
  if (dtype == DType::kBF16) {
    f(Bf16{});
  } else {
    f(float{});
  }
}

inline unsigned blocks_for(std::int64_t count, std::int64_t per_block) {
  const std::int64_t blocks = (count + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks);
}

}  // namespace dither::cuda
