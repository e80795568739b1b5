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

/// Another backend that also counts the floating-point operations of its matrix products, whatever
/// the model: 2 M N K for a linear layer, 4 B H Lq Lk D for an attention (both products, masked
/// positions included), 2 B H W Cout kh kw Cin for a convolution, times F kt in 3-D. Element-wise
/// work is left out, as usual for a share of peak.
class FlopCounter final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  /// Since the start.
  std::int64_t flops() const { return flops_; }
  /// Those called since the last trace() began, by the region they were called in
  /// (KernelRecord::region); what a recording repeats without calling is not in it.
  const std::map<std::string, std::int64_t>& region_flops() const { return region_flops_; }

  void begin_region(std::string_view name) override {
    ForwardingBackend::begin_region(name);
    regions_.begin(name);
  }
  void end_region() noexcept override {
    regions_.end();
    ForwardingBackend::end_region();
  }
  std::vector<ops::KernelRecord> trace(const std::function<void()>& work) override {
    region_flops_.clear();
    return ForwardingBackend::trace(work);
  }
  std::unique_ptr<ops::Recording> record(std::function<void()> work) override;

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

 private:
  void count(std::int64_t flops);

  std::int64_t flops_ = 0;
  ops::RegionStack regions_;
  std::map<std::string, std::int64_t> region_flops_;
};

}  // namespace dither
