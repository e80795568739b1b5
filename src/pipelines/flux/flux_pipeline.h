#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "models/flux/conditioning.h"
#include "models/flux/rope.h"
#include "ops/backend.h"
#include "pipelines/flow_pipeline.h"
#include "pipelines/guided_velocity.h"
#include "schedulers/flow_match.h"

namespace dither {

using FluxGuidance = Guidance<models::FluxConditioning>;
using FluxVelocity = GuidedVelocity<models::FluxConditioning>;

/// What the families of FLUX share: a picture is a grid of tokens in the dtype of the activations,
/// whose velocity Euler's method follows.
class FluxPipeline : public FlowPipeline {
 protected:
  /// `backend` and what `velocity` refers to outlive the pipeline.
  FluxPipeline(FluxVelocity::Model velocity, ops::Backend& backend)
      : FlowPipeline(backend), velocity_(std::move(velocity), backend) {}

 private:
  class Sampler;

  /// The transformer's weights, where they come for the denoising alone.
  virtual ops::WeightTurns* visiting_transformer() const { return nullptr; }
  /// The picture of a request in tokens.
  virtual models::TokenGrid grid(const ResolvedRequest& request) const = 0;
  virtual schedulers::FlowMatchSchedule schedule(const ResolvedRequest& request) const = 0;
  virtual FluxGuidance guidance(const ResolvedRequest& request, const Prompts& prompts,
                                const References& references,
                                const std::vector<float>& timesteps) const = 0;
  virtual Tensor draw_noise(models::TokenGrid grid, std::uint64_t seed,
                            NoiseSource noise) const = 0;
  virtual Image decode(const Tensor& latents, models::TokenGrid grid) const = 0;

  NoiseLevels noise_levels(const ResolvedRequest& request) const final;
  std::unique_ptr<FlowSampler> prepare(const ResolvedRequest& request, const Prompts& prompts,
                                       const References& references,
                                       const NoiseLevels& levels) final;
  Tensor draw_noise(const ResolvedRequest& request, std::uint64_t seed,
                    NoiseSource noise) const final;
  std::vector<Image> decode(const Tensor& latents, const ResolvedRequest& request) const final;

  FluxVelocity velocity_;
};

}  // namespace dither
