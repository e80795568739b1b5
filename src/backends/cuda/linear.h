#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "backends/cuda/device_constants.h"
#include "backends/cuda/lt_matmul.h"
#include "ops/types.h"
#include "tensor/device.h"

namespace dither::ops {
class Backend;
struct LinearGroup;
}  // namespace dither::ops

namespace dither::cuda {

struct DeviceLinear;
struct LinearPart;
struct RowVectors;

/// Calls `visit` for every tensor of a layer that LinearKernels prepared; it may put another of the
/// same contents in its place. Throws kInvalidArgument for a layer of another backend.
void visit_weights(ops::PreparedLinear& weights, const std::function<void(Tensor&)>& visit);

/// A layer that is one product of bf16 or E4M3 operands.
struct LinearOperands {
  Tensor x;  ///< [..., K]
  Matrix w;  ///< [N, K] of x's dtype, contiguous; what is expanded is valid until the next product
  const void* bias = nullptr;         ///< [N] bf16, or absent
  float scale = 1;                    ///< of the product, where `row_scales` is absent
  const float* row_scales = nullptr;  ///< [N]
};

/// y = residual + gate * activation(q(x) W^T + b) on tensor cores. Four ways, named in the layer's
/// LinearPrecision::kernel:
///  - "cuda bf16" / "cuda f32": weights in the activations' dtype.
///  - "cuda bf16, e4m3 weights" (or f32): weight-only codes, one byte in memory. Each product
///    first expands them, exactly, into memory that all layers share; weight_scale multiplies the
///    product, so shards that differ in it are a product each.
///  - "cuda e4m3": static per-tensor W8A8, codes times codes, weights one byte in memory.
///    Shards of one product keep their own weight_scale, per output feature.
///  - "cuda e4m3 as bf16" (or f32): the same product of the same codes, which both types hold
///    exactly, where FP8 units cannot take it: float32 activations, N or K not divisible by 16.
class LinearKernels {
 public:
  /// `backend` allocates, but weights are `weights`' tensors; `stream` is the backend's. All
  /// outlive this object and what it prepares. `expanded(bytes)` gives memory for expanded weights,
  /// which nothing else uses: it is valid until the next call and stays where it is as long as
  /// graphs may hold its address.
  LinearKernels(ops::Backend& backend, Device& weights, LtMatmul& matmul,
                DeviceConstants& constants, std::function<void*(std::size_t)> expanded,
                cudaStream_t stream)
      : backend_(backend),
        weights_(weights),
        matmul_(matmul),
        constants_(constants),
        expanded_(std::move(expanded)),
        stream_(stream) {}

  /// Throws kInvalidArgument when the shards cannot be executed together (ops::group_shards()).
  std::unique_ptr<ops::PreparedLinear> prepare(std::span<const ops::LinearShard> shards,
                                               DType dtype);
  /// x: activations, or E4M3 codes for "cuda e4m3"; y: any row view of activations, or E4M3
  /// where the epilogue says so. Throws kInvalidArgument when another backend prepared the weights.
  void run(const Tensor& x, const ops::PreparedLinear& weights, const ops::LinearEpilogue& epilogue,
           const Tensor& y);
  /// What a kernel that finishes the product in its own way multiplies; nothing where the layer is
  /// several products, or one of float32.
  std::optional<LinearOperands> operands(const Tensor& x, const ops::PreparedLinear& weights);

 private:
  LinearPart stacked_part(std::span<const ops::LinearShard> shards, const ops::LinearGroup& group,
                          DType resident, const RowVectors& rows);
  std::vector<LinearPart> separate_parts(std::span<const ops::LinearShard> shards,
                                         std::span<const float> scales, DType resident,
                                         const RowVectors& rows);
  Tensor quantized(const Tensor& x, const DeviceLinear& layer);
  Matrix operand(const LinearPart& part, const DeviceLinear& layer);
  void finish(const Tensor& product, ops::Activation activation,
              const ops::LinearEpilogue& epilogue, const Tensor& y);
  void multiply(const Tensor& x, const DeviceLinear& layer, const ops::LinearEpilogue& epilogue,
                const Tensor& y);

  ops::Backend& backend_;
  Device& weights_;
  LtMatmul& matmul_;
  DeviceConstants& constants_;
  std::function<void*(std::size_t)> expanded_;
  std::size_t largest_expansion_ = 0;  ///< bytes of the largest part that any layer expands
  cudaStream_t stream_;
};

}  // namespace dither::cuda
