#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_folder.h"
#include "ops/backend.h"
#include "pipelines/flux/flux_pipeline.h"
#include "pipelines/flux1/flux1_components.h"
#include "pipelines/flux1/flux1_request.h"

namespace dither {

/// FLUX.1 text to image, dev and schnell, as diffusers' FluxPipeline runs it.
class Flux1Pipeline final : public FluxPipeline {
 public:
  /// Throws as load_flux1_components(). `backend` outlives the pipeline.
  Flux1Pipeline(const ModelFolder& folder, ops::Backend& backend, std::optional<DType> dtype,
                const PipelineOptions& options = {});

  /// By the folder's configs alone. Throws as load_flux1_configs().
  static RequestResolver resolver(const ModelFolder& folder);

  std::string_view class_name() const override { return "FluxPipeline"; }
  DType dtype() const override { return components_.dtype; }
  std::string_view fingerprint() const override { return components_.fingerprint; }
  std::span<const ComponentAttestation> attestation() const override {
    return components_.attestation;
  }
  const MemoryPlan& memory_plan() const override { return components_.memory_plan; }

 private:
  ops::WeightTurns* visiting_transformer() const override {
    return components_.whole_transformer.get();
  }
  CheckedRequest check(const GenerateRequest& request) const override;
  models::TokenGrid grid(const ResolvedRequest& request) const override;
  Prompts encode(const ResolvedRequest& request, std::vector<std::string>& warnings) const override;
  schedulers::FlowMatchSchedule schedule(const ResolvedRequest& request) const override;
  FluxGuidance guidance(const ResolvedRequest& request, const Prompts& prompts,
                        const References& references,
                        const std::vector<float>& timesteps) const override;
  Tensor draw_noise(models::TokenGrid grid, std::uint64_t seed, NoiseSource noise) const override;
  Image decode(const Tensor& latents, models::TokenGrid grid) const override;

  /// T5's last hidden state [1, L_text, D], CLIP's pooled output [1, D].
  Embeddings encode_prompt(std::string_view option, const std::string& text,
                           int max_sequence_length, std::vector<std::string>& warnings) const;

  Flux1Components components_;
  Flux1Limits limits_;
};

}  // namespace dither
