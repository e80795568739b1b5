#pragma once

#include <cuda_runtime_api.h>

#include <optional>
#include <span>

#include "backends/cuda/kernels/projection.h"
#include "backends/cuda/linear.h"
#include "ops/types.h"

namespace dither::cuda {

/// What attentions and gated layers read, from projections or from the activations before them:
/// ops::norm_rope_heads(), ops::project_heads() and ops::gated_linear().
class ProjectionKernels {
 public:
  /// All outlive this object.
  ProjectionKernels(ops::Backend& backend, LinearKernels& linear, cudaStream_t stream)
      : backend_(backend), linear_(linear), stream_(stream) {}

  void norm_rope_heads(std::span<const ops::PackedQkv> streams, const ops::Rope& rope, float eps,
                       const ops::AttentionOperands& out);
  void project_heads(std::span<const ops::HeadProjection> streams, const ops::Rope& rope, float eps,
                     const ops::AttentionOperands& out);
  void gated_linear(const Tensor& x, const ops::PreparedLinear& weights, ops::Activation activation,
                    std::optional<float> e4m3_scale, const Tensor& y);
  void gated_activation(const Tensor& x, ops::Activation activation,
                        std::optional<float> e4m3_scale, const Tensor& y);

 private:
  /// One stream's projection as a product and the passes behind it. v of codes waits in `values`
  /// where they are defined, and raises *v_largest unless that is null.
  void project_in_steps(const ops::HeadProjection& stream, const ops::Rope& rope, float eps,
                        const ops::AttentionOperands& out, std::int64_t first, const Tensor& values,
                        float* v_largest);
  /// A stream's values, from token `first` on: to `joint`, the activations of all streams, where
  /// that is defined, else to blocks of their own.
  void place_values(const Tensor& v, const ops::AttentionOperands& out, std::int64_t first,
                    const Tensor& joint);
  /// When all streams' values are placed: what is in `joint` becomes blocks, and those behind the
  /// keys zeros.
  void finish_blocks(const ops::AttentionOperands& out, const Tensor& joint);
  bool fused(const Tensor& x, const ops::PreparedLinear& weights, ProjectionArgs args);

  ops::Backend& backend_;
  LinearKernels& linear_;
  cudaStream_t stream_;
};

}  // namespace dither::cuda
