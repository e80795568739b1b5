#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "models/flux1/transformer.h"
#include "ops/backend.h"

namespace dither {

/// What drives a trajectory: the prompt and, for true classifier-free guidance, its negative.
struct Flux1Guidance {
  models::Flux1Conditioning positive;
  std::optional<models::Flux1Conditioning> negative;
  float true_cfg_scale = 1;
};

/// The velocity of a FLUX.1 model as work that is recorded once and replayed at every step, of this
/// trajectory and of later ones with the same shapes: whatever changes between steps lies in
/// tensors that stay where they are.
class Flux1Denoiser {
 public:
  /// `transformer` and `backend` outlive the denoiser.
  Flux1Denoiser(const models::Flux1Transformer& transformer, ops::Backend& backend)
      : transformer_(transformer), backend_(backend) {}

  /// Starts a trajectory: copies the conditioning in, and the latents [B, L, C].
  void begin(Flux1Guidance guidance, const Tensor& latents);

  /// v, or v_negative + s (v_positive - v_negative), at step `step`; then Euler's step along the
  /// flow, latents += dt v (dt = sigma_{step+1} - sigma_step).
  void step(std::int64_t step, float dt, ops::AttentionPrecision precision);

  /// After the last step, [B, L, C]. Valid until the next begin() or step().
  const Tensor& latents() const { return latents_; }

 private:
  /// One conditioning in fixed tensors, and the row of its modulations that is being used.
  struct Side {
    models::Flux1Conditioning fixed;
    Tensor all_modulations;  ///< [N, B, M] of this trajectory
    Tensor modulations;      ///< [B, M] of this step
  };

  bool same_shapes(const Flux1Guidance& guidance, const Tensor& latents) const;
  Side make_side(const models::Flux1Conditioning& conditioning) const;
  void load(Side& side, models::Flux1Conditioning conditioning) const;
  Tensor velocity(ops::AttentionPrecision precision) const;

  const models::Flux1Transformer& transformer_;
  ops::Backend& backend_;
  Tensor latents_;
  Tensor velocity_;
  Side positive_;
  std::optional<Side> negative_;
  float true_cfg_scale_ = 1;
  std::map<ops::AttentionPrecision, std::unique_ptr<ops::Recording>> recordings_;
};

}  // namespace dither
