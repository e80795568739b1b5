#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "models/flux/conditioning.h"
#include "ops/backend.h"

namespace dither {

/// What drives a trajectory: the prompt and, for classifier-free guidance, its negative.
struct FlowGuidance {
  models::FluxConditioning positive;
  std::optional<models::FluxConditioning> negative;
  float cfg_scale = 1;
};

/// A transformer's velocity at latents [B, L, C] under a conditioning and one step's modulations
/// [B, M].
using VelocityFunction =
    std::function<Tensor(const Tensor& latents, const models::FluxConditioning& conditioning,
                         const Tensor& modulations, ops::AttentionPrecision precision)>;

/// The velocity of a flow-matching model as work that is recorded once and replayed at every step,
/// of this trajectory and of later ones with the same shapes: whatever changes between steps lies
/// in tensors that stay where they are.
class FlowDenoiser {
 public:
  /// What `velocity` refers to and `backend` outlive the denoiser.
  FlowDenoiser(VelocityFunction velocity, ops::Backend& backend)
      : model_(std::move(velocity)), backend_(backend) {}

  /// Starts a trajectory: copies the conditioning in, and the latents [B, L, C].
  void begin(FlowGuidance guidance, const Tensor& latents);

  /// v, or v_negative + s (v_positive - v_negative), at step `step`; then Euler's step along the
  /// flow, latents += dt v (dt = sigma_{step+1} - sigma_step).
  void step(std::int64_t step, float dt, ops::AttentionPrecision precision);

  /// After the last step, [B, L, C]. Valid until the next begin() or step().
  const Tensor& latents() const { return latents_; }

 private:
  /// One conditioning in fixed tensors, and the row of its modulations that is being used.
  struct Side {
    models::FluxConditioning fixed;
    Tensor all_modulations;  ///< [N, B, M] of this trajectory
    Tensor modulations;      ///< [B, M] of this step
  };

  bool same_shapes(const FlowGuidance& guidance, const Tensor& latents) const;
  Side make_side(const models::FluxConditioning& conditioning) const;
  void load(Side& side, models::FluxConditioning conditioning) const;
  Tensor velocity(ops::AttentionPrecision precision) const;

  VelocityFunction model_;
  ops::Backend& backend_;
  Tensor latents_;
  Tensor velocity_;
  Side positive_;
  std::optional<Side> negative_;
  float cfg_scale_ = 1;
  std::map<ops::AttentionPrecision, std::unique_ptr<ops::Recording>> recordings_;
};

}  // namespace dither
