#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace dither::cuda {

/// Per row of scores [heads, queries, keys], contiguous: p_k = exp(s_k - max) / sum, with
/// s_k = scale * score_k + bias_k, or -inf where a causal mask hides the key: k > query +
/// query_offset. The scores are read from `scores_f32`, or where that is null from `scores`; the
/// result goes to `scores`, of dtype. For keys that lie in the L2 cache; three passes.
struct SoftmaxArgs {
  void* scores = nullptr;
  DType dtype = DType::kF32;
  std::int64_t heads = 0;
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  float scale = 1;
  const float* bias = nullptr;  ///< [heads, queries, keys] by these strides; null: 0
  std::int64_t bias_head_stride = 0;
  std::int64_t bias_row_stride = 0;
  bool causal = false;
  std::int64_t query_offset = 0;
  const float* scores_f32 = nullptr;
};
void launch_softmax(const SoftmaxArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
