#include "pipelines/flux/flux_pipeline.h"

#include <utility>

#include "ops/ops.h"
#include "pipelines/visiting_weights.h"

namespace dither {

/// Euler's steps along the flow: latents += (sigma_{step+1} - sigma_step) v.
class FluxPipeline::Sampler final : public FlowSampler {
 public:
  /// `make_guidance` uses the transformer's weights. What the other arguments refer to outlives the
  /// sampler.
  template <typename MakeGuidance>
  Sampler(const FluxPipeline& pipeline, FluxVelocity& velocity, NoiseLevels levels,
          const MakeGuidance& make_guidance)
      : pipeline_(pipeline),
        velocity_(velocity),
        levels_(std::move(levels)),
        transformer_(pipeline.visiting_transformer()) {
    transformer_.come();
    guidance_ = make_guidance();
  }

  void begin(const Tensor& noise) override {
    transformer_.come();
    velocity_.begin(guidance_, noise.shape(), noise.shape(), noise.dtype());
    pipeline_.backend().copy(noise, latents());
  }
  void step(std::int64_t step) override {
    const auto i = static_cast<std::size_t>(step);
    const auto precision = pipeline_.attention().at(step, levels_.num_inference_steps());
    const float dt = levels_.sigmas[i + 1] - levels_.sigmas[i];
    const Tensor& v = velocity_(step, precision);
    pipeline_.backend().copy(ops::add_scaled(latents(), v, dt), latents());
  }
  const Tensor& latents() const override { return velocity_.latents(); }
  void end() override { transformer_.leave(); }

 private:
  const FluxPipeline& pipeline_;
  FluxVelocity& velocity_;
  NoiseLevels levels_;
  VisitingWeights transformer_;
  FluxGuidance guidance_;
};

NoiseLevels FluxPipeline::noise_levels(const ResolvedRequest& request) const {
  schedulers::FlowMatchSchedule levels = schedule(request);
  return {.timesteps = std::move(levels.timesteps), .sigmas = std::move(levels.sigmas)};
}

std::unique_ptr<FlowSampler> FluxPipeline::prepare(const ResolvedRequest& request,
                                                   const Prompts& prompts,
                                                   const References& references,
                                                   const NoiseLevels& levels) {
  return std::make_unique<Sampler>(*this, velocity_, levels, [&] {
    return guidance(request, prompts, references, levels.timesteps);
  });
}

Tensor FluxPipeline::draw_noise(const ResolvedRequest& request, std::uint64_t seed,
                                NoiseSource noise) const {
  return draw_noise(grid(request), seed, noise);
}

std::vector<Image> FluxPipeline::decode(const Tensor& latents,
                                        const ResolvedRequest& request) const {
  return {decode(latents, grid(request))};
}

}  // namespace dither
