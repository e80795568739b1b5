#include "pipelines/flux1/flux1_denoiser.h"

#include <utility>

#include "ops/ops.h"

namespace dither {
namespace {

/// A step's modulations [B, M] of one conditioning.
Shape step_shape(const models::Flux1Conditioning& conditioning) {
  return {conditioning.modulations.dim(1), conditioning.modulations.dim(2)};
}

bool fits(const models::Flux1Conditioning& fixed, const models::Flux1Conditioning& other) {
  return fixed.context.shape() == other.context.shape() &&
         fixed.rope.cos.shape() == other.rope.cos.shape();
}

}  // namespace

Flux1Denoiser::Side Flux1Denoiser::make_side(const models::Flux1Conditioning& conditioning) const {
  return {.fixed = {.context = ops::empty_like(conditioning.context, conditioning.context.shape()),
                    .rope = {ops::empty_like(conditioning.rope.cos, conditioning.rope.cos.shape()),
                             ops::empty_like(conditioning.rope.sin, conditioning.rope.sin.shape())},
                    .modulations = {}},
          .all_modulations = {},
          .modulations = ops::empty_like(conditioning.modulations, step_shape(conditioning))};
}

void Flux1Denoiser::load(Side& side, models::Flux1Conditioning conditioning) const {
  backend_.copy(conditioning.context, side.fixed.context);
  backend_.copy(conditioning.rope.cos, side.fixed.rope.cos);
  backend_.copy(conditioning.rope.sin, side.fixed.rope.sin);
  side.all_modulations = std::move(conditioning.modulations);
}

bool Flux1Denoiser::same_shapes(const Flux1Guidance& guidance, const Tensor& latents) const {
  return !recordings_.empty() && latents_.shape() == latents.shape() &&
         fits(positive_.fixed, guidance.positive) &&
         negative_.has_value() == guidance.negative.has_value() &&
         (!negative_ || (fits(negative_->fixed, *guidance.negative) &&
                         true_cfg_scale_ == guidance.true_cfg_scale));
}

void Flux1Denoiser::begin(Flux1Guidance guidance, const Tensor& latents) {
  if (!same_shapes(guidance, latents)) {
    recordings_.clear();  // their memory serves the next ones
    latents_ = ops::empty_like(latents, latents.shape());
    velocity_ = ops::empty_like(latents, latents.shape());
    positive_ = make_side(guidance.positive);
    negative_.reset();
    if (guidance.negative) negative_ = make_side(*guidance.negative);
    true_cfg_scale_ = guidance.true_cfg_scale;
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

Tensor Flux1Denoiser::velocity(ops::AttentionPrecision precision) const {
  Tensor positive =
      transformer_.velocity(latents_, positive_.fixed, positive_.modulations, precision);
  if (!negative_) return positive;
  const Tensor negative =
      transformer_.velocity(latents_, negative_->fixed, negative_->modulations, precision);
  const Tensor difference = ops::add_scaled(positive, negative, -1.0F);
  return ops::add_scaled(negative, difference, true_cfg_scale_);
}

void Flux1Denoiser::step(std::int64_t step, float dt, ops::AttentionPrecision precision) {
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
