#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/flux/rope.h"
#include "ops/backend.h"
#include "pipelines/flow_denoiser.h"
#include "pipelines/pipeline.h"
#include "pipelines/request_checks.h"
#include "pipelines/stage_clock.h"
#include "schedulers/flow_match.h"
#include "tokenizers/tokenizer.h"

namespace dither {

/// Text to image by flow matching, as the families of FLUX do it: text encoding, timesteps, noise,
/// denoising, decoding. A family fills in the stages. Pictures of one request are drawn one after
/// the other: each is what a request for its seed alone would give.
class FlowPipeline : public Pipeline {
 public:
  ResolvedRequest resolve(const GenerateRequest& request) const final;
  GenerateResult generate(const GenerateRequest& request, const ProgressCallback& progress) final;

 protected:
  /// What a transformer sees of one prompt, by the names that a trajectory file has for it.
  using Embeddings = std::vector<std::pair<std::string, Tensor>>;
  struct Prompts {
    Embeddings positive;
    std::optional<Embeddings> negative;  ///< for classifier-free guidance
  };
  /// Reference pictures as the transformer sees them.
  struct References {
    Tensor tokens;  ///< [1, sum of grids, C], packed latents; absent without references
    std::vector<models::TokenGrid> grids;
  };

  /// `backend` and what `velocity` refers to outlive the pipeline.
  FlowPipeline(VelocityFunction velocity, ops::Backend& backend)
      : backend_(backend), denoiser_(std::move(velocity), backend) {}

  /// Throws kUnsupported where the backend or dtype() has no FP8 attention.
  void set_attention(const AttentionSchedule& schedule);

  ops::Backend& backend() const { return backend_; }

 private:
  /// The transformer's weights, where they come for the denoising alone (ops::Offload::kWhole).
  virtual ops::OffloadedWeights* visiting_transformer() const { return nullptr; }
  virtual CheckedRequest check(const GenerateRequest& request) const = 0;
  /// The picture of a request in tokens.
  virtual models::TokenGrid grid(const ResolvedRequest& request) const = 0;
  virtual Prompts encode(const ResolvedRequest& request,
                         std::vector<std::string>& warnings) const = 0;
  virtual schedulers::FlowMatchSchedule schedule(const ResolvedRequest& request) const = 0;
  /// Of families that take references; of others check() refuses them.
  virtual References encode_references(const std::vector<ReferenceImage>& /*references*/) const {
    return {};
  }
  virtual FlowGuidance prepare(const ResolvedRequest& request, const Prompts& prompts,
                               const References& references,
                               const schedulers::FlowMatchSchedule& schedule) const = 0;
  /// Initial latents, packed [1, L, C].
  virtual Tensor draw_noise(models::TokenGrid grid, std::uint64_t seed,
                            NoiseSource noise) const = 0;
  virtual Image decode(const Tensor& latents, models::TokenGrid grid) const = 0;

  /// A request on its way: what all of its pictures share.
  struct Run;
  /// Told the 0-based step, the latents after it [1, L, C] and how long it took.
  using StepCallback = std::function<void(std::int64_t, const Tensor&, double)>;

  GeneratedImage draw(Run& run, int index);
  Tensor denoise(const Tensor& noise, const FlowGuidance& guidance,
                 const schedulers::FlowMatchSchedule& schedule, const StepCallback& on_step);

  ops::Backend& backend_;
  AttentionSchedule attention_;
  FlowDenoiser denoiser_;
};

/// Token ids as an encoder takes them, [1, L] kI32 in host memory.
Tensor id_tensor(const TokenIds& tokens);

/// Shows where an encoder stopped to read, if it did. `cut_off`: the text that it did not see.
void warn_if_truncated(std::string_view option, std::string_view encoder, const TokenIds& tokens,
                       std::string_view cut_off, std::vector<std::string>& warnings);

}  // namespace dither
