#include <cuda_fp16.h>

#include <algorithm>
#include <string>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/copy.h"
#include "backends/cuda/kernels/float8.cuh"

namespace dither::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kMaxBlocks = 132U * 32U;

/// Where element `index` of the row-major order lies in both tensors.
struct Place {
  std::int64_t from = 0;
  std::int64_t to = 0;
};

__device__ Place place_of(const CopyArgs& args, std::int64_t index) {
  Place place;
  for (int dim = args.rank - 1; dim > 0; --dim) {
    const std::int64_t outer = index / args.shape[dim];
    const std::int64_t i = index - outer * args.shape[dim];
    place.from += i * args.from_strides[dim];
    place.to += i * args.to_strides[dim];
    index = outer;
  }
  place.from += index * args.from_strides[0];
  place.to += index * args.to_strides[0];
  return place;
}

template <typename F>
__device__ void each_index(std::int64_t count, const F& f) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += step) {
    f(i);
  }
}

template <typename Unit>
__global__ void __launch_bounds__(kThreads) copy_units(CopyArgs args, std::int64_t count) {
  each_index(count, [&](std::int64_t i) {
    const Place place = place_of(args, i);
    static_cast<Unit*>(args.to)[place.to] = static_cast<const Unit*>(args.from)[place.from];
  });
}

__device__ float read(const void* data, DType dtype, std::int64_t index) {
  switch (dtype) {
    case DType::kBF16:
      return __bfloat162float(static_cast<const Bf16*>(data)[index]);
    case DType::kF16:
      return __half2float(static_cast<const __half*>(data)[index]);
    case DType::kF8E4M3:
      return e4m3_to_f32(static_cast<const std::uint8_t*>(data)[index]);
    default:
      return static_cast<const float*>(data)[index];
  }
}

/// to_e4m3(): what does not round to a finite code becomes NaN.
__device__ std::uint8_t e4m3_unsaturated(float value) {
  const bool finite = fabsf(value) <= 464.0F;
  return finite ? e4m3_saturated(value)
                : static_cast<std::uint8_t>((__float_as_uint(value) >> 24 & 0x80U) | 0x7FU);
}

__device__ void write(float value, void* data, DType dtype, std::int64_t index) {
  switch (dtype) {
    case DType::kBF16:
      static_cast<Bf16*>(data)[index] = __float2bfloat16_rn(value);
      break;
    case DType::kF16:
      static_cast<__half*>(data)[index] = __float2half_rn(value);
      break;
    case DType::kF8E4M3:
      static_cast<std::uint8_t*>(data)[index] = e4m3_unsaturated(value);
      break;
    default:
      static_cast<float*>(data)[index] = value;
  }
}

__global__ void __launch_bounds__(kThreads) convert(CopyArgs args, std::int64_t count) {
  each_index(count, [&](std::int64_t i) {
    const Place place = place_of(args, i);
    write(read(args.from, args.from_dtype, place.from), args.to, args.to_dtype, place.to);
  });
}

/// The same copy with as few dimensions as possible, at least one.
CopyArgs collapsed(const CopyArgs& args) {
  CopyArgs result = args;
  result.rank = 0;
  for (int dim = 0; dim < args.rank; ++dim) {
    if (args.shape[dim] == 1) continue;
    const int last = result.rank - 1;
    if (last >= 0 && result.from_strides[last] == args.shape[dim] * args.from_strides[dim] &&
        result.to_strides[last] == args.shape[dim] * args.to_strides[dim]) {
      result.shape[last] *= args.shape[dim];
      result.from_strides[last] = args.from_strides[dim];
      result.to_strides[last] = args.to_strides[dim];
      continue;
    }
    result.shape[result.rank] = args.shape[dim];
    result.from_strides[result.rank] = args.from_strides[dim];
    result.to_strides[result.rank] = args.to_strides[dim];
    ++result.rank;
  }
  if (result.rank == 0) {
    result.rank = 1;
    result.shape[0] = 1;
    result.from_strides[0] = result.to_strides[0] = 1;
  }
  return result;
}

/// Rewrites a copy of `bytes`-byte elements as one of 16-byte units, where everything is aligned.
bool widen(CopyArgs& args, std::int64_t bytes) {
  const int inner = args.rank - 1;
  if (args.from_strides[inner] != 1 || args.to_strides[inner] != 1) return false;
  const auto aligned = [&](const void* data) {
    return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  };
  bool fits = aligned(args.from) && aligned(args.to) && args.shape[inner] * bytes % 16 == 0;
  for (int dim = 0; dim < inner; ++dim) {
    fits =
        fits && args.from_strides[dim] * bytes % 16 == 0 && args.to_strides[dim] * bytes % 16 == 0;
  }
  if (!fits) return false;
  args.shape[inner] = args.shape[inner] * bytes / 16;
  for (int dim = 0; dim < inner; ++dim) {
    args.from_strides[dim] = args.from_strides[dim] * bytes / 16;
    args.to_strides[dim] = args.to_strides[dim] * bytes / 16;
  }
  return true;
}

std::int64_t count_of(const CopyArgs& args) {
  std::int64_t count = 1;
  for (int dim = 0; dim < args.rank; ++dim) count *= args.shape[dim];
  return count;
}

template <typename Unit>
void launch_units(const CopyArgs& args, cudaStream_t stream) {
  const std::int64_t count = count_of(args);
  const unsigned blocks = std::min(blocks_for(count, kThreads), kMaxBlocks);
  copy_units<Unit><<<blocks, kThreads, 0, stream>>>(args, count);
}

bool converts(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16 ||
         dtype == DType::kF8E4M3;
}

void copy_bits(CopyArgs args, cudaStream_t stream) {
  const int bits = dtype_bits(args.from_dtype);
  if (bits % 8 == 0 && widen(args, bits / 8)) return launch_units<uint4>(args, stream);
  switch (bits) {
    case 8:
      return launch_units<std::uint8_t>(args, stream);
    case 16:
      return launch_units<std::uint16_t>(args, stream);
    case 32:
      return launch_units<std::uint32_t>(args, stream);
    case 64:
      return launch_units<std::uint64_t>(args, stream);
    default:
      throw Error(ErrorCode::kUnsupported,
                  "cuda: copying elements of " + std::to_string(bits) + " bits");
  }
}

}  // namespace

void launch_copy(const CopyArgs& args, cudaStream_t stream) {
  const std::int64_t count = count_of(args);
  if (count == 0) return;
  const CopyArgs flat = collapsed(args);
  if (args.from_dtype == args.to_dtype) {
    copy_bits(flat, stream);
  } else if (converts(args.from_dtype) && converts(args.to_dtype)) {
    const unsigned blocks = std::min(blocks_for(count, kThreads), kMaxBlocks);
    convert<<<blocks, kThreads, 0, stream>>>(flat, count);
  } else {
    throw Error(ErrorCode::kUnsupported, "cuda: no conversion from " +
                                             std::string(dtype_name(args.from_dtype)) + " to " +
                                             std::string(dtype_name(args.to_dtype)));
  }
  check_launch("launch copy");
}

}  // namespace dither::cuda
