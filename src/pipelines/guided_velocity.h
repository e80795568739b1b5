#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "ops/backend.h"
#include "ops/ops.h"
#include "pipelines/pipeline.h"

namespace dither {

/// What drives a trajectory: the prompt and, for classifier-free guidance, its negative.
template <typename Conditioning>
struct Guidance {
  Conditioning positive;
  std::optional<Conditioning> negative;
  float cfg_scale = 1;
};

/// The velocity of a flow-matching model as work that is recorded once and replayed at every step,
/// of this trajectory and of later ones with the same shapes: whatever changes between steps lies
/// in tensors that stay where they are.
///
/// A Conditioning is what a transformer's forward passes need beside the latents. It has
/// `modulations` [N, B, M], a row for each step, and a function `std::vector<Tensor*>
/// fixed_tensors(Conditioning&)` beside it, which lists those of its tensors that are the same in
/// every step, in a fixed order; absent ones are null tensors.
template <typename Conditioning>
class GuidedVelocity {
 public:
  /// A transformer's velocity at latents [B, L, C] under a conditioning and one step's modulations
  /// [B, M].
  using Model = std::function<Tensor(const Tensor& latents, const Conditioning& conditioning,
                                     const Tensor& modulations, ops::AttentionPrecision precision)>;

  /// What `model` refers to and `backend` outlive this object.
  GuidedVelocity(Model model, ops::Backend& backend)
      : model_(std::move(model)), backend_(&backend) {}
  GuidedVelocity(const GuidedVelocity&) = delete;
  GuidedVelocity& operator=(const GuidedVelocity&) = delete;

  /// Starts a trajectory: copies the conditioning in. The model takes latents [B, L, C] of shape
  /// `latents` and gives velocities of shape `velocity`, both in `dtype`.
  void begin(Guidance<Conditioning> guidance, const Shape& latents, const Shape& velocity,
             DType dtype) {
    if (!same_shapes(guidance, latents, velocity, dtype)) {
      recordings_.clear();  // their memory serves the next ones
      latents_ = Tensor::empty(latents, dtype, *backend_);
      velocity_ = Tensor::empty(velocity, dtype, *backend_);
      positive_ = make_side(guidance.positive);
      negative_.reset();
      if (guidance.negative) negative_ = make_side(*guidance.negative);
      cfg_scale_ = guidance.cfg_scale;
    }
    load(positive_, std::move(guidance.positive));
    if (negative_) load(*negative_, std::move(*guidance.negative));
  }

  /// Where operator() reads the latents: to be filled before it is called.
  const Tensor& latents() const { return latents_; }

  /// v, or v_negative + s (v_positive - v_negative), at step `step`, like the model's results.
  /// Valid until the next call. `once`: the model is called, not replayed: the same kernels.
  const Tensor& operator()(std::int64_t step, ops::AttentionPrecision precision,
                           bool once = false) {
    select(positive_, step);
    if (negative_) select(*negative_, step);
    // A probe wants to be called, at every step.
    if (once || backend_->linear_probe() != nullptr) {
      backend_->copy(velocity(precision), velocity_);
      return velocity_;
    }
    auto& recording = recordings_[precision];
    if (!recording) {
      recording =
          backend_->record([this, precision] { backend_->copy(velocity(precision), velocity_); });
    }
    recording->replay();
    return velocity_;
  }

 private:
  /// One conditioning in fixed tensors, and the row of its modulations that is being used.
  struct Side {
    Conditioning fixed;
    Tensor all_modulations;  ///< [N, B, M] of this trajectory
    Tensor modulations;      ///< [B, M] of this step
  };
  /// A conditioning's tensors, and their shapes.
  static std::vector<Tensor*> tensors(Conditioning& conditioning) {
    return fixed_tensors(conditioning);
  }
  static bool fits(Side& side, Conditioning& other) {
    const Shape modulations = {other.modulations.dim(1), other.modulations.dim(2)};
    return side.modulations.shape() == modulations &&
           std::ranges::equal(tensors(side.fixed), tensors(other), [](Tensor* a, Tensor* b) {
             return a->shape() == b->shape() && a->dtype() == b->dtype() &&
                    a->defined() == b->defined();
           });
  }

  bool same_shapes(Guidance<Conditioning>& guidance, const Shape& latents, const Shape& velocity,
                   DType dtype) {
    return latents_.defined() && latents_.shape() == latents && velocity_.shape() == velocity &&
           latents_.dtype() == dtype && fits(positive_, guidance.positive) &&
           negative_.has_value() == guidance.negative.has_value() &&
           (!negative_ ||
            (fits(*negative_, *guidance.negative) && cfg_scale_ == guidance.cfg_scale));
  }

  Side make_side(Conditioning& conditioning) const {
    Side side{.fixed = conditioning, .all_modulations = {}, .modulations = {}};
    for (Tensor* tensor : tensors(side.fixed)) {
      if (tensor->defined()) *tensor = ops::empty_like(*tensor, tensor->shape());
    }
    side.fixed.modulations = {};
    const Tensor& all = conditioning.modulations;
    side.modulations = ops::empty_like(all, {all.dim(1), all.dim(2)});
    return side;
  }

  void load(Side& side, Conditioning conditioning) const {
    const std::vector<Tensor*> to = tensors(side.fixed);
    const std::vector<Tensor*> from = tensors(conditioning);
    for (std::size_t i = 0; i < to.size(); ++i) {
      if (to[i]->defined()) backend_->copy(*from[i], *to[i]);
    }
    side.all_modulations = std::move(conditioning.modulations);
  }

  void select(const Side& side, std::int64_t step) const {
    backend_->copy(side.all_modulations.at(step), side.modulations);
  }

  Tensor velocity(ops::AttentionPrecision precision) const {
    Tensor positive = model_(latents_, positive_.fixed, positive_.modulations, precision);
    if (!negative_) return positive;
    const Tensor negative = model_(latents_, negative_->fixed, negative_->modulations, precision);
    const Tensor difference = ops::add_scaled(positive, negative, -1.0F);
    return ops::add_scaled(negative, difference, cfg_scale_);
  }

  Model model_;
  ops::Backend* backend_;
  Tensor latents_;
  Tensor velocity_;
  Side positive_;
  std::optional<Side> negative_;
  float cfg_scale_ = 1;
  std::map<ops::AttentionPrecision, std::unique_ptr<ops::Recording>> recordings_;
};

}  // namespace dither
