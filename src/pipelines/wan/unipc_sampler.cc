#include "pipelines/wan/unipc_sampler.h"

#include <fmt/format.h>

#include <initializer_list>
#include <utility>

#include "base/error.h"
#include "ops/ops.h"

namespace dither {
namespace {

struct Term {
  const Tensor& tensor;
  double factor;
};

// factor0 tensor0 + factor1 tensor1 + ...; tensors of terms without a factor may be absent.
Tensor combine(std::initializer_list<Term> terms) {
  Tensor sum;
  for (const auto& [tensor, factor] : terms) {
    if (factor == 0) continue;
    const auto rounded = static_cast<float>(factor);
    sum = sum.defined() ? ops::add_scaled(sum, tensor, rounded) : ops::affine(tensor, rounded, 0);
  }
  return sum;
}

}  // namespace

UniPcSampler::UniPcSampler(schedulers::UniPcSchedule schedule, Tensor latents)
    : schedule_(std::move(schedule)), latents_(std::move(latents)) {
  if (latents_.dtype() != DType::kF32) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("UniPC samples in float32, latents are {}", to_string(latents_)));
  }
}

const Tensor& UniPcSampler::step(const Tensor& velocity) {
  if (finished()) {
    throw Error(ErrorCode::kInternal,
                fmt::format("UniPC: all {} steps are done", schedule_.steps.size()));
  }
  const auto& [sigma, corrector, predictor] = schedule_.steps[step_];
  const Tensor current =
      ops::add_scaled(latents_, ops::cast(velocity, DType::kF32), static_cast<float>(-sigma));
  if (corrector) {
    latents_ = combine({{corrected_, corrector->previous_sample},
                        {previous_, corrector->previous},
                        {older_, corrector->older},
                        {current, corrector->current}});
  }
  corrected_ = latents_;
  latents_ = combine({{corrected_, predictor.sample},
                      {current, predictor.current},
                      {previous_, predictor.previous}});
  older_ = previous_;
  previous_ = current;
  ++step_;
  return latents_;
}

}  // namespace dither
