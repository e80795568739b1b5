#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/cudnn_attention.h"
#include "backends/cuda/device_constants.h"
#include "backends/cuda/lt_matmul.h"
#include "ops/backend.h"
#include "ops/types.h"

namespace dither::cuda {

/// softmax(scale * q k^T + bias) v: our own kernel for many keys of 128 bf16 channels without mask
/// or bias, else cuDNN's fused one where it takes the operands, else two products around a softmax,
/// in pieces of queries that bound the memory for the scores. E4M3 operands are cuDNN's alone.
class AttentionKernels {
 public:
  AttentionKernels(ops::Backend& backend, LtMatmul& matmul, CudnnAttention& fused,
                   DeviceConstants& constants, cudaStream_t stream)
      : backend_(backend), matmul_(matmul), fused_(fused), constants_(constants), stream_(stream) {}

  /// Operands as in ops::attention; y: any row view [B, Lq, H D] of q's dtype, or E4M3 codes where
  /// the options say so.
  void run(const ops::AttentionOperands& in, const ops::AttentionOptions& options, const Tensor& y);

 private:
  bool flash(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
             const Tensor& y);
  void run_codes(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                 const Tensor& y);
  void write(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
             const Tensor& y);
  void unfused(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
               const Tensor& y);

  ops::Backend& backend_;
  LtMatmul& matmul_;
  CudnnAttention& fused_;
  DeviceConstants& constants_;
  cudaStream_t stream_;
};

}  // namespace dither::cuda
