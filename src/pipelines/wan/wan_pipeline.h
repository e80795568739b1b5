#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_folder.h"
#include "ops/backend.h"
#include "pipelines/flow_pipeline.h"
#include "pipelines/guided_velocity.h"
#include "pipelines/wan/wan_components.h"
#include "pipelines/wan/wan_request.h"

namespace dither {

/// Wan's videos as diffusers' WanPipeline and WanImageToVideoPipeline make them: from text
/// (Wan2.2-T2V-A14B with its two experts, Wan2.2-TI2V-5B and Wan2.1-T2V with their one), and from a
/// picture that they begin with (Wan2.2-I2V-A14B, Wan2.2-TI2V-5B).
class WanPipeline final : public FlowPipeline {
 public:
  /// Throws as load_wan_components(). `backend` outlives the pipeline.
  WanPipeline(const ModelFolder& folder, ops::Backend& backend, std::optional<DType> dtype,
              const PipelineOptions& options = {});

  /// By the folder's configs alone. Throws as load_wan_configs().
  static RequestResolver resolver(const ModelFolder& folder);

  std::string_view class_name() const override { return class_name_; }
  DType dtype() const override { return components_.dtype; }
  std::string_view fingerprint() const override { return components_.fingerprint; }
  std::span<const ComponentAttestation> attestation() const override {
    return components_.attestation;
  }
  const MemoryPlan& memory_plan() const override { return components_.memory_plan; }

 private:
  using Velocity = GuidedVelocity<models::WanConditioning>;
  class Sampler;

  CheckedRequest check(const GenerateRequest& request) const override;
  Prompts encode(const ResolvedRequest& request, std::vector<std::string>& warnings) const override;
  References encode_references(const GenerateRequest& request,
                               const ResolvedRequest& resolved) const override;
  NoiseLevels noise_levels(const ResolvedRequest& request) const override;
  std::unique_ptr<FlowSampler> prepare(const ResolvedRequest& request, const Prompts& prompts,
                                       const References& references,
                                       const NoiseLevels& levels) override;
  Tensor draw_noise(const ResolvedRequest& request, std::uint64_t seed,
                    NoiseSource noise) const override;
  std::vector<Image> decode(const Tensor& latents, const ResolvedRequest& request) const override;

  models::VideoGrid grid(const ResolvedRequest& request) const;
  schedulers::UniPcSchedule schedule(const ResolvedRequest& request) const;
  /// [1, max_sequence_length, text_dim]: rows past the prompt are zeros.
  Embeddings encode_prompt(std::string_view option, const std::string& text,
                           int max_sequence_length, std::vector<std::string>& warnings) const;

  std::string class_name_;
  WanComponents components_;
  WanLimits limits_;
  std::deque<Velocity> velocities_;  ///< of every expert
};

}  // namespace dither
