#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_folder.h"
#include "ops/backend.h"
#include "pipelines/flux1/flux1_components.h"
#include "pipelines/flux1/flux1_denoiser.h"
#include "pipelines/flux1/flux1_request.h"
#include "pipelines/pipeline.h"
#include "pipelines/stage_clock.h"

namespace dither {

/// FLUX.1 text to image, dev and schnell, as diffusers' FluxPipeline runs it. Pictures of one
/// request are drawn one after the other: each is what a request for its seed alone would give.
class Flux1Pipeline final : public Pipeline {
 public:
  /// Throws as load_flux1_components(). `backend` outlives the pipeline.
  Flux1Pipeline(const ModelFolder& folder, ops::Backend& backend, std::optional<DType> dtype,
                const WeightOptions& weights = {});

  std::string_view class_name() const override { return "FluxPipeline"; }
  DType dtype() const override { return components_.dtype; }
  std::string_view fingerprint() const override { return components_.fingerprint; }
  std::span<const ComponentAttestation> attestation() const override {
    return components_.attestation;
  }
  const MemoryPlan& memory_plan() const override { return components_.memory_plan; }
  ResolvedRequest resolve(const GenerateRequest& request) const override;
  GenerateResult generate(const GenerateRequest& request,
                          const ProgressCallback& progress) override;

 private:
  /// What the transformer sees of one prompt.
  struct Prompt {
    Tensor prompt_embeds;         ///< [1, L_text, D], T5's last hidden state
    Tensor pooled_prompt_embeds;  ///< [1, D], CLIP's
  };
  struct Prompts {
    Prompt positive;
    std::optional<Prompt> negative;  ///< for true classifier-free guidance
  };
  /// A request on its way: what all of its pictures share.
  struct Run;
  /// Told the 0-based step, the latents after it [1, L, C] and how long it took.
  using StepCallback = std::function<void(std::int64_t, const Tensor&, double)>;

  Prompt encode_prompt(std::string_view option, const std::string& text, int max_sequence_length,
                       std::vector<std::string>& warnings) const;
  Prompts encode_prompts(const ResolvedRequest& request, std::vector<std::string>& warnings) const;
  Flux1Guidance prepare_guidance(const ResolvedRequest& request, const Prompts& prompts,
                                 const schedulers::FlowMatchSchedule& schedule) const;
  models::TokenGrid grid(const ResolvedRequest& request) const;
  GeneratedImage draw(Run& run, int index);
  Tensor draw_noise(models::TokenGrid grid, std::uint64_t seed, NoiseSource noise) const;
  Tensor denoise(const Tensor& noise, const Flux1Guidance& guidance,
                 const schedulers::FlowMatchSchedule& schedule, const StepCallback& on_step);
  Image decode(const Tensor& latents, models::TokenGrid grid) const;

  ops::Backend& backend_;
  Flux1Components components_;
  Flux1Limits limits_;
  AttentionSchedule attention_;
  Flux1Denoiser denoiser_;
};

}  // namespace dither
