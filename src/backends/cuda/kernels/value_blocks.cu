#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/float8.cuh"
#include "backends/cuda/kernels/value_blocks.cuh"
#include "backends/cuda/kernels/value_blocks.h"

namespace dither::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kKeys = static_cast<int>(kValueBlockKeys);
constexpr int kDim = 128;
constexpr int kVector = kLanes<Bf16>;
constexpr int kPitch = kDim + 2;  ///< words of a column lie in different banks

/// A block of threads per block of values.
__global__ void __launch_bounds__(kThreads) block_values(BlockValuesArgs args, int tokens) {
  __shared__ Bf16 values[kKeys * kPitch];
  __shared__ float scratch[32];
  const auto thread = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(blockIdx.x) * kKeys;
  const std::int64_t sample = blockIdx.z;
  const std::int64_t head = blockIdx.y;
  const auto* const v = reinterpret_cast<const Bf16*>(args.v.data) + head * kDim;
  float largest = 0;
  for (int i = thread; i < kKeys * kDim / kVector; i += kThreads) {
    const int key = i / (kDim / kVector);
    const int channel = i % (kDim / kVector) * kVector;
    uint4 raw = make_uint4(0, 0, 0, 0);
    if (first + key < tokens) {
      const std::int64_t row = sample * tokens + first + key;
      raw = *reinterpret_cast<const uint4*>(v + row * args.v.row_stride + channel);
    }
    float x[kVector];
    unpack<Bf16>(raw, x);
#pragma unroll
    for (int j = 0; j < kVector; ++j) largest = fmaxf(largest, fabsf(x[j]));
    auto* const words = reinterpret_cast<std::uint32_t*>(values + key * kPitch + channel);
    words[0] = raw.x;
    words[1] = raw.y;
    words[2] = raw.z;
    words[3] = raw.w;
  }
  const float4 scales = value_scales(max_block(largest, scratch));
  const float reciprocal = scales.y;
  const std::int64_t block =
      (sample * args.heads + head) * args.to.blocks + args.first_token / kKeys + blockIdx.x;
  if (thread == 0) reinterpret_cast<float4*>(args.to.scales)[block] = scales;
  std::uint8_t* const codes = args.to.codes + block * kValueBlockBytes;
  for (int i = thread; i < kDim * kKeys / 16; i += kThreads) {
    const int channel = i % kDim;
    const int chunk = i / kDim;
    alignas(16) std::uint8_t sixteen[16];
#pragma unroll
    for (int s = 0; s < 16; ++s) {
      const int key = 16 * chunk + s / 2 % 2 * 8 + s / 4 * 2 + s % 2;
      sixteen[s] = e4m3_saturated(to_f32(values[key * kPitch + channel]) * reciprocal);
    }
    *reinterpret_cast<uint4*>(codes + value_offset(channel, chunk)) =
        *reinterpret_cast<const uint4*>(sixteen);
  }
}

}  // namespace

void launch_block_values(const BlockValuesArgs& args, cudaStream_t stream) {
  const std::int64_t tokens = args.v.rows / args.batch;
  const dim3 grid(blocks_for(tokens, kValueBlockKeys), static_cast<unsigned>(args.heads),
                  static_cast<unsigned>(args.batch));
  block_values<<<grid, kThreads, 0, stream>>>(args, static_cast<int>(tokens));
  check_launch("launch block_values");
}

void launch_zero_blocks(const ValueBlocks& blocks, std::int64_t heads_of_samples,
                        std::int64_t tokens, cudaStream_t stream) {
  const auto used = static_cast<std::int64_t>(blocks_for(tokens, kValueBlockKeys));
  if (used == blocks.blocks) return;
  const auto zero = [&](void* data, std::int64_t bytes) {
    check(cudaMemset2DAsync(static_cast<std::byte*>(data) + used * bytes,
                            static_cast<std::size_t>(blocks.blocks * bytes), 0,
                            static_cast<std::size_t>((blocks.blocks - used) * bytes),
                            static_cast<std::size_t>(heads_of_samples), stream),
          "zero the blocks behind the keys");
  };
  zero(blocks.codes, kValueBlockBytes);
  zero(blocks.scales, kValueScales * static_cast<std::int64_t>(sizeof(float)));
}

}  // namespace dither::cuda
