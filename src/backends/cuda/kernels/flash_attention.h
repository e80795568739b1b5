#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backends/cuda/kernels/value_blocks.h"
#include "tensor/tensor.h"

namespace dither::cuda {

/// [B, L, H, 128], with these strides in elements.
struct HeadsView {
  const void* data = nullptr;
  std::int64_t tokens = 0;  ///< L
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t batch_stride = 0;
};

/// Where parts of results meet that several blocks compute, each of other keys.
struct FlashWorkspace {
  float4* pieces = nullptr;  ///< uninitialised; as many bytes as flash_piece_bytes() says
  /// flash_counters() zeros, and zeros again after every launch. Launches that share them run in
  /// the order of one stream.
  unsigned* arrived = nullptr;
};

/// y = softmax(scale q k^T) v per head with float32 sums. Online softmax (Milakov & Gimelshein
/// 2018) over tiles of keys (Dao et al. 2022), with the overlap of products and exponentials of
/// FlashAttention-3 (Shah et al. 2024).
struct FlashAttentionArgs {
  HeadsView q, k;  ///< of k at least one token
  std::int64_t batch = 0;
  std::int64_t heads = 0;
  float scale = 1;                 ///< positive
  RowView y;                       ///< [B Lq, H 128] bf16, or codes
  float y_reciprocal = 0;          ///< y as E4M3 codes of its bf16 values times this; 0: bf16
  std::int64_t first_queries = 0;  ///< of codes: so many of each sample times this instead
  float first_reciprocal = 0;
  FlashWorkspace workspace{};
};

inline constexpr std::int64_t kFlashHeadDim = 128;

/// Whether strides and addresses are such that the kernels can take them; `element` is q's and k's.
bool flash_attention_fits(const FlashAttentionArgs& args, DType element);
bool flash_values_fit(const HeadsView& v);

/// What FlashWorkspace::pieces must have for such q and k, in bf16 or as codes: often nothing.
std::int64_t flash_piece_bytes(const FlashAttentionArgs& args);
std::int64_t flash_piece_bytes_e4m3(const FlashAttentionArgs& args);
/// How many counters FlashWorkspace::arrived has, on the current device.
std::int64_t flash_counters();

/// q, k and v in bf16, v of k's tokens; the probabilities are rounded to bf16 once. Needs
/// flash_attention_fits() and flash_values_fit().
void launch_flash_attention(const FlashAttentionArgs& args, const HeadsView& v,
                            cudaStream_t stream);

/// q and k are E4M3 codes that stand for themselves, v blocks of k's tokens. The probabilities,
/// times the scale of their block of values, become codes that fill the format's range. Needs
/// flash_attention_fits().
void launch_flash_attention_e4m3(const FlashAttentionArgs& args, const ValueBlocks& v,
                                 cudaStream_t stream);

}  // namespace dither::cuda
