#include "runtime/flop_counter.h"

#include <optional>
#include <utility>

namespace dither {

namespace {

/// Counts what a recording does, also where its kernels are submitted without being called.
class CountedRecording final : public ops::Recording {
 public:
  CountedRecording(std::unique_ptr<ops::Recording> inner, std::int64_t& flops)
      : inner_(std::move(inner)), flops_(flops) {}

  void replay() override {
    const std::int64_t before = flops_;
    inner_->replay();
    if (!per_replay_) per_replay_ = flops_ - before;
    flops_ = before + *per_replay_;
  }

 private:
  std::unique_ptr<ops::Recording> inner_;
  std::int64_t& flops_;
  std::optional<std::int64_t> per_replay_;
};

}  // namespace

std::unique_ptr<ops::Recording> FlopCounter::record(std::function<void()> work) {
  return std::make_unique<CountedRecording>(inner().record(std::move(work)), flops_);
}

void FlopCounter::count(std::int64_t flops) {
  flops_ += flops;
  region_flops_[regions_.path()] += flops;
}

void FlopCounter::linear(const Tensor& x, const ops::PreparedLinear& weights,
                         const ops::LinearEpilogue& epilogue, const Tensor& y) {
  count(2 * x.elements() * weights.out_features());
  inner().linear(x, weights, epilogue, y);
}

void FlopCounter::project_heads(std::span<const ops::HeadProjection> streams, const ops::Rope& rope,
                                float eps, const ops::AttentionOperands& out) {
  for (const ops::HeadProjection& stream : streams) {
    count(2 * stream.x.elements() * stream.weights->out_features());
  }
  inner().project_heads(streams, rope, eps, out);
}

void FlopCounter::gated_linear(const Tensor& x, const ops::PreparedLinear& weights,
                               ops::Activation activation, std::optional<float> e4m3_scale,
                               const Tensor& y) {
  count(2 * x.elements() * weights.out_features());
  inner().gated_linear(x, weights, activation, e4m3_scale, y);
}

void FlopCounter::attention(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                            const Tensor& y) {
  count(4 * in.q.elements() * in.k.dim(1));
  inner().attention(in, options, y);
}

void FlopCounter::conv2d(const Tensor& x, const ops::PreparedConv2d& weights,
                         const Tensor& residual, const Tensor& y) {
  count(2 * y.elements() * weights.kernel_h() * weights.kernel_w() * weights.in_channels());
  inner().conv2d(x, weights, residual, y);
}

void FlopCounter::conv3d(const Tensor& x, const ops::PreparedConv3d& weights,
                         const Tensor& residual, const Tensor& y) {
  count(2 * y.elements() * weights.kernel_t() * weights.kernel_h() * weights.kernel_w() *
        weights.in_channels());
  inner().conv3d(x, weights, residual, y);
}

}  // namespace dither
