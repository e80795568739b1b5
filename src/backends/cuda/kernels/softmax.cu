#include <algorithm>
#include <cmath>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/softmax.h"

namespace dither::cuda {
namespace {

constexpr int kThreads = 256;

/// A block per row. From is what the scores are read as.
template <typename From, typename T>
__global__ void __launch_bounds__(kThreads) softmax(SoftmaxArgs args) {
  __shared__ float scratch[32];
  const std::int64_t row = blockIdx.x;
  const std::int64_t head = row / args.queries;
  const std::int64_t query = row % args.queries;
  const From* const scores =
      static_cast<const From*>(args.scores_f32 != nullptr ? args.scores_f32 : args.scores) +
      row * args.keys;
  T* const result = static_cast<T*>(args.scores) + row * args.keys;
  const float* const bias = args.bias == nullptr ? nullptr
                                                 : args.bias + head * args.bias_head_stride +
                                                       query * args.bias_row_stride;
  const std::int64_t visible =
      args.causal ? min(args.keys, query + args.query_offset + 1) : args.keys;
  const auto score = [&](std::int64_t key) {
    const float s = to_f32(scores[key]) * args.scale;
    return bias == nullptr ? s : s + bias[key];
  };

  float largest = -INFINITY;
  for (std::int64_t key = threadIdx.x; key < visible; key += kThreads) {
    largest = fmaxf(largest, score(key));
  }
  largest = max_block(largest, scratch);
  float sum = 0;
  for (std::int64_t key = threadIdx.x; key < visible; key += kThreads) {
    sum += expf(score(key) - largest);
  }
  const float factor = 1.0F / sum_block(sum, scratch);
  for (std::int64_t key = threadIdx.x; key < args.keys; key += kThreads) {
    result[key] = from_f32<T>(key < visible ? expf(score(key) - largest) * factor : 0.0F);
  }
}

}  // namespace

void launch_softmax(const SoftmaxArgs& args, cudaStream_t stream) {
  const std::int64_t rows = args.heads * args.queries;
  if (rows == 0 || args.keys == 0) return;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    const auto blocks = static_cast<unsigned>(rows);
    if (args.scores_f32 != nullptr) {
      softmax<float, T><<<blocks, kThreads, 0, stream>>>(args);
    } else {
      softmax<T, T><<<blocks, kThreads, 0, stream>>>(args);
    }
  });
  check_launch("launch softmax");
}

}  // namespace dither::cuda
