#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/backend.h"

namespace dither {

/// Another backend under a name of its own: to be derived from by what watches or changes a part of
/// what a backend does. Its tensors are those of the other one's memory.
class ForwardingBackend : public ops::Backend {
 public:
  explicit ForwardingBackend(std::unique_ptr<ops::Backend> inner) : inner_(std::move(inner)) {}

  std::string_view name() const override { return inner_->name(); }
  std::string description() const override { return inner_->description(); }
  void begin_region(std::string_view name) override { inner_->begin_region(name); }
  void end_region() noexcept override { inner_->end_region(); }
  std::vector<ops::KernelRecord> trace(const std::function<void()>& work) override {
    return inner_->trace(work);
  }
  ops::BackendTraits traits() const override { return inner_->traits(); }
  std::unique_ptr<ops::Recording> record(std::function<void()> work) override {
    return inner_->record(std::move(work));
  }
  std::shared_ptr<Storage> allocate(std::size_t bytes) override;
  Tensor upload(const Tensor& host, DType dtype) override;
  Tensor download(const Tensor& tensor) override { return inner_->download(tensor); }
  void copy(const Tensor& from, const Tensor& to) override { inner_->copy(from, to); }
  void synchronize() override { inner_->synchronize(); }
  ops::MemoryStats memory() const override { return inner_->memory(); }
  void reset_peak_memory() override { inner_->reset_peak_memory(); }
  std::optional<std::size_t> available_memory() const override {
    return inner_->available_memory();
  }
  std::unique_ptr<ops::PreparedLinear> prepare_linear(std::span<const ops::LinearShard> shards,
                                                      DType dtype) override {
    return inner_->prepare_linear(shards, dtype);
  }
  std::unique_ptr<ops::PreparedConv2d> prepare_conv2d(const ops::Conv2dWeights& weights,
                                                      DType dtype) override {
    return inner_->prepare_conv2d(weights, dtype);
  }
  std::int64_t conv3d_row_channels(std::int64_t channels, DType dtype) const override {
    return inner_->conv3d_row_channels(channels, dtype);
  }
  std::unique_ptr<ops::PreparedConv3d> prepare_conv3d(const ops::Conv3dWeights& weights,
                                                      DType dtype) override {
    return inner_->prepare_conv3d(weights, dtype);
  }
  std::unique_ptr<ops::StreamedWeights> stream_weights() override {
    return inner_->stream_weights();
  }
  std::unique_ptr<ops::WeightTurns> take_turns() override { return inner_->take_turns(); }

  void linear(const Tensor& x, const ops::PreparedLinear& weights,
              const ops::LinearEpilogue& epilogue, const Tensor& y) override {
    inner_->linear(x, weights, epilogue, y);
  }
  ops::E4m3Values e4m3_values(const Shape& heads) const override {
    return inner_->e4m3_values(heads);
  }
  void project_heads(std::span<const ops::HeadProjection> streams, const ops::Rope& rope, float eps,
                     const ops::AttentionOperands& out) override {
    inner_->project_heads(streams, rope, eps, out);
  }
  void gated_linear(const Tensor& x, const ops::PreparedLinear& weights, ops::Activation activation,
                    std::optional<float> e4m3_scale, const Tensor& y) override {
    inner_->gated_linear(x, weights, activation, e4m3_scale, y);
  }
  void attention(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                 const Tensor& y) override {
    inner_->attention(in, options, y);
  }
  void conv2d(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
              const Tensor& y) override {
    inner_->conv2d(x, weights, residual, y);
  }
  void conv3d(const Tensor& x, const ops::PreparedConv3d& weights, const Tensor& residual,
              const Tensor& y) override {
    inner_->conv3d(x, weights, residual, y);
  }

  void layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                  const Tensor& y) override {
    inner_->layer_norm(x, weight, bias, eps, y);
  }
  void layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale, float eps,
                           std::optional<float> e4m3_scale, const Tensor& y) override {
    inner_->layer_norm_modulate(x, shift, scale, eps, e4m3_scale, y);
  }
  void rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) override {
    inner_->rms_norm(x, weight, eps, y);
  }
  void group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias, float eps,
                  ops::Activation activation, const Tensor& y) override {
    inner_->group_norm(x, groups, weight, bias, eps, activation, y);
  }
  void channel_norm(const Tensor& x, const Tensor& weight, ops::Activation activation,
                    const Tensor& y) override {
    inner_->channel_norm(x, weight, activation, y);
  }
  void norm_rope_heads(std::span<const ops::PackedQkv> streams, const ops::Rope& rope, float eps,
                       const ops::AttentionOperands& out) override {
    inner_->norm_rope_heads(streams, rope, eps, out);
  }
  void upsample_nearest2x(const Tensor& x, const Tensor& y) override {
    inner_->upsample_nearest2x(x, y);
  }
  void to_pixels(const Tensor& x, const Tensor& y) override { inner_->to_pixels(x, y); }
  void embedding(const Tensor& table, const Tensor& ids, const Tensor& y) override {
    inner_->embedding(table, ids, y);
  }
  void activate(const Tensor& x, ops::Activation activation, const Tensor& y) override {
    inner_->activate(x, activation, y);
  }
  void gated_activation(const Tensor& x, ops::Activation activation,
                        std::optional<float> e4m3_scale, const Tensor& y) override {
    inner_->gated_activation(x, activation, e4m3_scale, y);
  }
  void add(const Tensor& a, const Tensor& b, const Tensor& y) override { inner_->add(a, b, y); }
  void add_scaled(const Tensor& x, const Tensor& v, float factor, const Tensor& y) override {
    inner_->add_scaled(x, v, factor, y);
  }
  void affine(const Tensor& x, float factor, float offset, const Tensor& y) override {
    inner_->affine(x, factor, offset, y);
  }

 protected:
  ops::Backend& inner() const { return *inner_; }

 private:
  /// The same memory as a tensor of this device: ops look the backend up in their operands.
  std::shared_ptr<Storage> adopt(std::shared_ptr<Storage> storage);

  std::unique_ptr<ops::Backend> inner_;
};

}  // namespace dither
