#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ops/region.h"
#include "runtime/forwarding_backend.h"

namespace dither {

/// What an operation cannot do without.
struct Work {
  /// Of matrix products, whatever the model: 2 M N K for a linear layer, 4 B H Lq Lk D for an
  /// attention (both products, masked positions included), 2 B H W Cout kh kw Cin for a
  /// convolution, times F kt in 3-D. Element-wise work is left out, as usual for a share of peak.
  std::int64_t flops = 0;
  /// Every operand read once, every result written once.
  std::int64_t bytes = 0;

  Work& operator+=(const Work& other) {
    flops += other.flops;
    bytes += other.bytes;
    return *this;
  }
  bool operator==(const Work&) const = default;
};

/// Another backend that also counts the work of its operations. During a trace() each is a region
/// of its own, of the operation's name, so that kernels can be told apart by it.
class WorkCounter final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  /// Of all operations since the start.
  std::int64_t flops() const { return flops_; }
  /// Of the last trace(), by operation: "stage/block/linear", as KernelRecord::region.
  const std::map<std::string, Work>& traced() const { return traced_; }

  void begin_region(std::string_view name) override {
    ForwardingBackend::begin_region(name);
    regions_.begin(name);
  }
  void end_region() noexcept override {
    regions_.end();
    ForwardingBackend::end_region();
  }
  std::vector<ops::KernelRecord> trace(const std::function<void()>& work) override;
  std::unique_ptr<ops::Recording> record(std::function<void()> work) override;

  void copy(const Tensor& from, const Tensor& to) override;
  void linear(const Tensor& x, const ops::PreparedLinear& weights,
              const ops::LinearEpilogue& epilogue, const Tensor& y) override;
  void project_heads(std::span<const ops::HeadProjection> streams, const ops::Rope& rope, float eps,
                     const ops::AttentionOperands& out) override;
  void gated_linear(const Tensor& x, const ops::PreparedLinear& weights, ops::Activation activation,
                    std::optional<float> e4m3_scale, const Tensor& y) override;
  void attention(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                 const Tensor& y) override;
  void conv2d(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
              const Tensor& y) override;
  void conv3d(const Tensor& x, const ops::PreparedConv3d& weights, const Tensor& residual,
              const Tensor& y) override;
  void layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                  const Tensor& y) override;
  void layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale, float eps,
                           std::optional<float> e4m3_scale, const Tensor& y) override;
  void rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) override;
  void group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias, float eps,
                  ops::Activation activation, const Tensor& y) override;
  void channel_norm(const Tensor& x, const Tensor& weight, ops::Activation activation,
                    const Tensor& y) override;
  void norm_rope_heads(std::span<const ops::PackedQkv> streams, const ops::Rope& rope, float eps,
                       const ops::AttentionOperands& out) override;
  void upsample_nearest2x(const Tensor& x, const Tensor& y) override;
  void to_pixels(const Tensor& x, const Tensor& y) override;
  void embedding(const Tensor& table, const Tensor& ids, const Tensor& y) override;
  void activate(const Tensor& x, ops::Activation activation, const Tensor& y) override;
  void gated_activation(const Tensor& x, ops::Activation activation,
                        std::optional<float> e4m3_scale, const Tensor& y) override;
  void add(const Tensor& a, const Tensor& b, const Tensor& y) override;
  void add_scaled(const Tensor& x, const Tensor& v, float factor, const Tensor& y) override;
  void affine(const Tensor& x, float factor, float offset, const Tensor& y) override;

 private:
  template <typename Run>
  void count(std::string_view operation, const Work& work, const Run& run);

  std::int64_t flops_ = 0;
  ops::RegionStack regions_;
  bool tracing_ = false;
  std::map<std::string, Work> traced_;
};

}  // namespace dither
