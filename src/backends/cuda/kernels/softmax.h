#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace dither::cuda {

/// Per row of scores [heads, queries, keys], contiguous: p_k = exp(s_k - max) / sum, with
/// s_k = scale * score_k + bias_k, or -inf where a causal mask hides the key: k > query +
/// query_offset. The result takes the scores' place: a row of bf16 fills the first half of a row of
/// scores, 2 keys elements from the next. Up to 16384 keys, a multiple of 8, without bias and mask,
/// are read and written once; others are read three times, by a block that finds them in the L2
/// cache.
struct SoftmaxArgs {
  float* scores = nullptr;
  DType dtype = DType::kF32;  ///< of the result, kF32 or kBF16
  std::int64_t heads = 0;
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  float scale = 1;
  const float* bias = nullptr;  ///< [heads, queries, keys] by these strides; null: 0
  std::int64_t bias_head_stride = 0;
  std::int64_t bias_row_stride = 0;
  bool causal = false;
  std::int64_t query_offset = 0;
};
void launch_softmax(const SoftmaxArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
