#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/flux/rope.h"
#include "ops/backend.h"
#include "pipelines/pipeline.h"
#include "pipelines/request_checks.h"
#include "pipelines/stage_clock.h"
#include "tokenizers/tokenizer.h"

namespace dither {

/// The noise levels of a request, from noise to picture.
struct NoiseLevels {
  std::vector<float> timesteps;  ///< [N], as the transformer sees them
  std::vector<float> sigmas;     ///< [N + 1]

  std::int64_t num_inference_steps() const { return static_cast<std::int64_t>(timesteps.size()); }
};

/// The denoising of one request: what its outputs share, applied to one initial noise after the
/// other.
class FlowSampler {
 public:
  virtual ~FlowSampler() = default;

  /// Starts at noise, packed [1, L, C].
  virtual void begin(const Tensor& noise) = 0;
  /// 0-based, in order.
  virtual void step(std::int64_t step) = 0;
  /// After the last step, [1, L, C]. Valid until the next begin() or step().
  virtual const Tensor& latents() const = 0;
  /// Behind the last step: latents() become what is decoded, and what only the steps need may leave
  /// the device.
  virtual void end() = 0;
};

/// From text to pictures or videos by flow matching: text encoding, timesteps, noise, denoising,
/// decoding. A family fills in the stages. Outputs of one request are made one after the other:
/// each is what a request for its seed alone would give.
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
    Tensor tokens;                              ///< [1, L, C], packed; absent without references
    std::vector<models::TokenGrid> grids = {};  ///< of pictures that have tokens of their own
  };

  /// `backend` outlives the pipeline.
  explicit FlowPipeline(ops::Backend& backend) : backend_(backend) {}

  /// Throws kUnsupported where the backend or dtype() has no FP8 attention.
  void set_attention(const AttentionSchedule& schedule);

  ops::Backend& backend() const { return backend_; }
  const AttentionSchedule& attention() const { return attention_; }

 private:
  virtual CheckedRequest check(const GenerateRequest& request) const = 0;
  virtual Prompts encode(const ResolvedRequest& request,
                         std::vector<std::string>& warnings) const = 0;
  virtual NoiseLevels noise_levels(const ResolvedRequest& request) const = 0;
  /// Of families that take references; of others check() refuses them. `resolved`: what check()
  /// made of the request.
  virtual References encode_references(const GenerateRequest& /*request*/,
                                       const ResolvedRequest& /*resolved*/) const {
    return {};
  }
  /// The sampler refers to none of the arguments once it is made, but to the pipeline.
  virtual std::unique_ptr<FlowSampler> prepare(const ResolvedRequest& request,
                                               const Prompts& prompts, const References& references,
                                               const NoiseLevels& levels) = 0;
  /// Initial latents, packed [1, L, C].
  virtual Tensor draw_noise(const ResolvedRequest& request, std::uint64_t seed,
                            NoiseSource noise) const = 0;
  /// One picture, or a video's frames in order.
  virtual std::vector<Image> decode(const Tensor& latents,
                                    const ResolvedRequest& request) const = 0;

  /// A request on its way: what all of its outputs share.
  struct Run;

  GeneratedOutput draw(Run& run, int index);
  /// All steps of a sampler that has begun; `on_step` is told the 0-based step and how long it
  /// took.
  template <typename StepCallback>
  void denoise(FlowSampler& sampler, std::int64_t steps, const StepCallback& on_step);

  ops::Backend& backend_;
  AttentionSchedule attention_;
};

/// Token ids as an encoder takes them, [1, L] kI32 in host memory.
Tensor id_tensor(const TokenIds& tokens);

/// Shows where an encoder stopped to read, if it did. `cut_off`: the text that it did not see.
void warn_if_truncated(std::string_view option, std::string_view encoder, const TokenIds& tokens,
                       std::string_view cut_off, std::vector<std::string>& warnings);

}  // namespace dither
