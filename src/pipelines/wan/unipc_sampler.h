#pragma once

#include <cstddef>
#include <cstdint>

#include "schedulers/unipc.h"
#include "tensor/tensor.h"

namespace dither {

/// The samples of one generation under UniPC, with the history that its steps need. The history
/// is of samples, not of models: it goes on where another transformer takes over.
class UniPcSampler {
 public:
  /// `latents` f32 on a backend, any shape: pure noise. Throws kInvalidArgument for another dtype.
  UniPcSampler(schedulers::UniPcSchedule schedule, Tensor latents);

  const schedulers::UniPcSchedule& schedule() const { return schedule_; }
  /// Steps done, and so the index of the next.
  std::int64_t step_index() const { return static_cast<std::int64_t>(step_); }
  bool finished() const { return step_ == schedule_.steps.size(); }
  /// What the next step starts from, in the end the clean sample. f32.
  const Tensor& latents() const { return latents_; }

  /// One step. `velocity`: the transformer's at latents() and timesteps[step_index()], of the same
  /// shape, f32 or bf16. Everything is computed in float32; where the velocity is bf16, diffusers
  /// rounds sigma * velocity to bf16 and so loses up to 2^-9 of it.
  /// Throws kInvalidArgument for another shape, kInternal when finished().
  const Tensor& step(const Tensor& velocity);

 private:
  schedulers::UniPcSchedule schedule_;
  std::size_t step_ = 0;
  Tensor latents_;
  Tensor corrected_;  ///< the sample that the last step started from, corrected
  Tensor previous_;   ///< the last step's prediction of the clean sample
  Tensor older_;      ///< and that of the step before
};

}  // namespace dither
