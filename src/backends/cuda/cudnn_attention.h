#pragma once

#include <cstdint>
#include <memory>

#include "backends/cuda/cudnn_handle.h"
#include "ops/types.h"

namespace dither::cuda {

/// What the probabilities are multiplied by before they become E4M3 codes: they lie in [0, 1], so
/// this uses the format's whole range and nothing saturates.
inline constexpr float kFp8ProbabilityScale = 448.0F;

/// Per-tensor scales of an FP8 attention: f32 scalars in device memory, each 16-byte aligned, read
/// when the kernel runs. A value is its code times `descale`, a code the value times `scale`.
struct Fp8AttentionScales {
  const float* descale_q = nullptr;
  const float* descale_k = nullptr;
  const float* descale_v = nullptr;
  const float* scale_s = nullptr;    ///< kFp8ProbabilityScale
  const float* descale_s = nullptr;  ///< 1 / kFp8ProbabilityScale
  const float* scale_o = nullptr;    ///< 1 / input_scale of the layer that reads the result
  float* amax_s = nullptr;           ///< written by the kernel, which cannot leave it out; ignored
  float* amax_o = nullptr;           ///< likewise
};

/// softmax(scale * q k^T + bias) v as one fused kernel of cuDNN (FlashAttention, Dao 2023), float32
/// inside; the scores never reach memory. Operands are strided views: slices of a packed projection
/// serve as they are. A plan is built at the first call of a kind (0.04-1 s) and kept; from the
/// second call of that kind on nothing is allocated and the call may be captured in a CUDA graph.
/// Not thread-safe.
class CudnnAttention {
 public:
  /// The handle outlives this object.
  CudnnAttention(const CudnnHandle& handle, CudnnScratch scratch);
  ~CudnnAttention();
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  /// True for bf16 q, k, v [B, L, H, D] with D <= 128 a multiple of 8, unit stride in D, addresses
  /// and other strides multiples of 16 bytes, and an absent bias or an f32 one [H, Lq, Lk] under
  /// the same conditions; any causality; results in bf16.
  static bool supports(const ops::AttentionOperands& in, const ops::AttentionOptions& options);

  /// y: rows [B, Lq, H D] bf16; strides in elements, address and strides multiples of 16 bytes; no
  /// aliasing. The bias is read as f32: cuDNN takes f32 or q's dtype, as long as the graph says
  /// which. Throws kInvalidArgument unless supports() and y is as stated, kUnsupported with cuDNN's
  /// reasons when no engine takes the operands, kDevice.
  void run(const ops::AttentionOperands& in, const ops::AttentionOptions& options, void* y,
           std::int64_t y_row_stride, std::int64_t y_batch_stride);

  /// As supports(), for run_fp8(): E4M3 codes, D a multiple of 16.
  static bool supports_fp8(const ops::AttentionOperands& in);

  /// The same on E4M3 codes, Hopper or newer, products in FP8 with float32 sums:
  ///   y = e4m3(scale_o * softmax(scale * q k^T) v), q = descale_q * code and so on.
  /// The unnormalised probabilities pass through E4M3 too: expect errors of 3-4 % on normal data.
  /// y: rows [B, Lq, H D] of codes, not of bf16, which cuDNN refuses on Hopper; address and strides
  /// multiples of 16. Errors as in run().
  void run_fp8(const ops::AttentionOperands& in, float scale, const Fp8AttentionScales& scales,
               void* y, std::int64_t y_row_stride, std::int64_t y_batch_stride);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dither::cuda
