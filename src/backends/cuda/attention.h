#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <utility>

#include "backends/cuda/cudnn_attention.h"
#include "backends/cuda/device_constants.h"
#include "backends/cuda/kernels/flash_attention.h"
#include "backends/cuda/kernels/value_blocks.h"
#include "backends/cuda/lt_matmul.h"
#include "ops/backend.h"
#include "ops/types.h"

namespace dither::cuda {

/// Backend::e4m3_values(): blocks where the attention is our own kernel's.
ops::E4m3Values e4m3_values(const Shape& heads);

/// v's codes where they lie in blocks; null where they lie as q's do, and of activations.
ValueBlocks value_blocks(const ops::AttentionOperands& heads);

/// softmax(scale * q k^T + bias) v: our own kernels for many keys of 128 channels without mask or
/// bias, bf16 or codes, else cuDNN's fused ones where they take the operands, else two products
/// around a softmax, in pieces of queries that bound the memory for the scores.
class AttentionKernels {
 public:
  /// `scratch(bytes)` gives memory that is valid until the next call on the stream.
  AttentionKernels(ops::Backend& backend, LtMatmul& matmul, CudnnAttention& fused,
                   DeviceConstants& constants, std::function<void*(std::size_t bytes)> scratch,
                   cudaStream_t stream)
      : backend_(backend),
        matmul_(matmul),
        fused_(fused),
        constants_(constants),
        scratch_(std::move(scratch)),
        stream_(stream) {}

  /// Operands as in ops::attention; y: any row view [B, Lq, H D] of q's dtype, or E4M3 codes where
  /// the options say so.
  void run(const ops::AttentionOperands& in, const ops::AttentionOptions& options, const Tensor& y);

 private:
  bool flash(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
             const Tensor& y);
  void flash_codes(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                   const Tensor& y);
  FlashWorkspace workspace(std::int64_t piece_bytes);
  void run_codes(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                 const Tensor& y);
  /// Codes of values [B, Lq, H D], as the options say.
  void quantize(const Tensor& values, const ops::AttentionOptions& options, const Tensor& y);
  void write(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
             const Tensor& y);
  void unfused(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
               const Tensor& y);

  ops::Backend& backend_;
  LtMatmul& matmul_;
  CudnnAttention& fused_;
  DeviceConstants& constants_;
  std::function<void*(std::size_t bytes)> scratch_;
  cudaStream_t stream_;
  Tensor arrived_;  ///< of FlashWorkspace
};

}  // namespace dither::cuda
