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
#include "pipelines/flux2/flux2_components.h"
#include "pipelines/flux2/flux2_request.h"

namespace dither {

/// FLUX.2, dev and klein, text to image and with reference pictures, as diffusers' Flux2Pipeline,
/// Flux2KleinPipeline and Flux2KleinKVPipeline run it.
class Flux2Pipeline final : public FluxPipeline {
 public:
  /// Throws as load_flux2_components(). `backend` outlives the pipeline.
  Flux2Pipeline(const ModelFolder& folder, ops::Backend& backend, std::optional<DType> dtype,
                const PipelineOptions& options = {});

  /// By the folder's configs alone. Throws as load_flux2_configs().
  static RequestResolver resolver(const ModelFolder& folder);

  std::string_view class_name() const override { return components_.configs.variant->pipeline; }
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
  References encode_references(const GenerateRequest& request,
                               const ResolvedRequest& resolved) const override;
  FluxGuidance guidance(const ResolvedRequest& request, const Prompts& prompts,
                        const References& references,
                        const std::vector<float>& timesteps) const override;
  Tensor draw_noise(models::TokenGrid grid, std::uint64_t seed, NoiseSource noise) const override;
  Image decode(const Tensor& latents, models::TokenGrid grid) const override;

  /// [1, max_sequence_length, joint_attention_dim].
  Embeddings encode_prompt(std::string_view option, const std::string& text,
                           int max_sequence_length, std::vector<std::string>& warnings) const;

  Flux2Components components_;
  Flux2Limits limits_;
};

}  // namespace dither
