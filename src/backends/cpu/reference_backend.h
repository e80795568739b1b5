#pragma once

#include <span>

#include "backends/cpu/host_backend.h"

namespace dither::cpu {

/// Every op as its formula, in plain loops over float32 copies of the operands; sums and
/// transcendentals in double, one rounding to the result's dtype at the end. Slow, and sharper than
/// any float32 kernel: differences against it are the other kernel's error. FP8 linears multiply
/// the codes that quant::quantize_activation_e4m3 computes.
class CpuReferenceBackend final : public HostBackend {
 public:
  CpuReferenceBackend();

  std::unique_ptr<ops::PreparedLinear> prepare_linear(std::span<const ops::LinearShard> shards,
                                                      DType dtype) override;
  std::unique_ptr<ops::PreparedConv2d> prepare_conv2d(const ops::Conv2dWeights& weights,
                                                      DType dtype) override;
  std::unique_ptr<ops::PreparedConv3d> prepare_conv3d(const ops::Conv3dWeights& weights,
                                                      DType dtype) override;

  void linear(const Tensor& x, const ops::PreparedLinear& weights,
              const ops::LinearEpilogue& epilogue, const Tensor& y) override;
  void layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                  const Tensor& y) override;
  void layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale, float eps,
                           std::optional<float> /*e4m3_scale*/, const Tensor& y) override;
  void rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) override;
  void group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias, float eps,
                  ops::Activation activation, const Tensor& y) override;
  void channel_norm(const Tensor& x, const Tensor& weight, ops::Activation activation,
                    const Tensor& y) override;
  void norm_rope_heads(std::span<const ops::PackedQkv> streams, const ops::Rope& rope, float eps,
                       const ops::AttentionOperands& out) override;
  void attention(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                 const Tensor& y) override;
  void conv2d(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
              const Tensor& y) override;
  void conv3d(const Tensor& x, const ops::PreparedConv3d& weights, const Tensor& residual,
              const Tensor& y) override;
  void upsample_nearest2x(const Tensor& x, const Tensor& y) override;
  void embedding(const Tensor& table, const Tensor& ids, const Tensor& y) override;
  void activate(const Tensor& x, ops::Activation activation, const Tensor& y) override;
  void gated_activation(const Tensor& x, ops::Activation activation,
                        std::optional<float> e4m3_scale, const Tensor& y) override;
  void add(const Tensor& a, const Tensor& b, const Tensor& y) override;
  void add_scaled(const Tensor& x, const Tensor& v, float factor, const Tensor& y) override;
  void affine(const Tensor& x, float factor, float offset, const Tensor& y) override;
};

}  // namespace dither::cpu
