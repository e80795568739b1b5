#include "pipelines/flow_denoiser.h"

#include <utility>

#include "ops/ops.h"

namespace dither {
namespace {

/// A step's modulations [B, M] of one conditioning.
Shape step_shape(const models::FluxConditioning& conditioning) {
  return {conditioning.modulations.dim(1), conditioning.modulations.dim(2)};
}

bool fits(const models::FluxConditioning& fixed, const models::FluxConditioning& other) {
  return fixed.context.shape() == other.context.shape() &&
         fixed.rope.cos.shape() == other.rope.cos.shape() &&
         fixed.reference.shape() == other.reference.shape();
}

/// Room for a tensor's values; absent for an absent one.
Tensor room_for(const Tensor& tensor) {
  return tensor.defined() ? ops::empty_like(tensor, tensor.shape()) : Tensor();
}

}  // namespace

FlowDenoiser::Side FlowDenoiser::make_side(const models::FluxConditioning& conditioning) const {
  return {.fixed = {.context = room_for(conditioning.context),
                    .rope = {room_for(conditioning.rope.cos), room_for(conditioning.rope.sin)},
                    .modulations = {},
                    .reference = room_for(conditioning.reference)},
          .all_modulations = {},
          .modulations = ops::empty_like(conditioning.modulations, step_shape(conditioning))};
}

void FlowDenoiser::load(Side& side, models::FluxConditioning conditioning) const {
  backend_.copy(conditioning.context, side.fixed.context);
  backend_.copy(conditioning.rope.cos, side.fixed.rope.cos);
  backend_.copy(conditioning.rope.sin, side.fixed.rope.sin);
  if (side.fixed.reference.defined()) {
    backend_.copy(conditioning.reference, side.fixed.reference);
  }
  side.all_modulations = std::move(conditioning.modulations);
}

bool FlowDenoiser::same_shapes(const FlowGuidance& guidance, const Tensor& latents) const {
  return !recordings_.empty() && latents_.shape() == latents.shape() &&
         fits(positive_.fixed, guidance.positive) &&
         negative_.has_value() == guidance.negative.has_value() &&
         (!negative_ ||
          (fits(negative_->fixed, *guidance.negative) && cfg_scale_ == guidance.cfg_scale));
}

void FlowDenoiser::begin(FlowGuidance guidance, const Tensor& latents) {
  if (!same_shapes(guidance, latents)) {
    recordings_.clear();  // their memory serves the next ones
    latents_ = ops::empty_like(latents, latents.shape());
    velocity_ = ops::empty_like(latents, latents.shape());
    positive_ = make_side(guidance.positive);
    negative_.reset();
    if (guidance.negative) negative_ = make_side(*guidance.negative);
    cfg_scale_ = guidance.cfg_scale;
    for (const auto precision :
         {ops::AttentionPrecision::kActivations, ops::AttentionPrecision::kE4m3}) {
      recordings_[precision] =
          backend_.record([this, precision] { backend_.copy(velocity(precision), velocity_); });
    }
  }
  backend_.copy(latents, latents_);
  load(positive_, std::move(guidance.positive));
  if (negative_) load(*negative_, std::move(*guidance.negative));
}

Tensor FlowDenoiser::velocity(ops::AttentionPrecision precision) const {
  Tensor positive = model_(latents_, positive_.fixed, positive_.modulations, precision);
  if (!negative_) return positive;
  const Tensor negative = model_(latents_, negative_->fixed, negative_->modulations, precision);
  const Tensor difference = ops::add_scaled(positive, negative, -1.0F);
  return ops::add_scaled(negative, difference, cfg_scale_);
}

void FlowDenoiser::step(std::int64_t step, float dt, ops::AttentionPrecision precision) {
  const auto select = [&](const Side& side) {
    backend_.copy(side.all_modulations.slice(0, step, step + 1).reshape(side.modulations.shape()),
                  side.modulations);
  };
  select(positive_);
  if (negative_) select(*negative_);
  // A probe wants to be called, at every step.
  if (backend_.linear_probe() != nullptr) {
    backend_.copy(velocity(precision), velocity_);
  } else {
    recordings_.at(precision)->replay();
  }
  backend_.copy(ops::add_scaled(latents_, velocity_, dt), latents_);
}

}  // namespace dither
