#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/tensor.h"

namespace dither::cuda {

/// [B, L, H, 128] bf16, with these strides in elements.
struct HeadsView {
  const void* data = nullptr;
  std::int64_t tokens = 0;  ///< L
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t batch_stride = 0;
};

/// y = softmax(scale q k^T) v per head, float32 sums and one rounding of the probabilities to bf16.
/// Online softmax (Milakov & Gimelshein 2018) over tiles of keys (Dao et al. 2022), with the
/// overlap of products and exponentials of FlashAttention-3 (Shah et al. 2024).
struct FlashAttentionArgs {
  HeadsView q, k, v;  ///< k and v have the same tokens, at least one
  std::int64_t batch = 0;
  std::int64_t heads = 0;
  float scale = 1;         ///< positive
  RowView y;               ///< [B Lq, H 128] bf16, or codes
  float y_reciprocal = 0;  ///< y as E4M3 codes of its bf16 values times this; 0: bf16
};

inline constexpr std::int64_t kFlashHeadDim = 128;

/// Whether strides and addresses are such that the kernel can take them.
bool flash_attention_fits(const FlashAttentionArgs& args);
/// Needs flash_attention_fits().
void launch_flash_attention(const FlashAttentionArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
