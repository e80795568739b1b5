#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dither::schedulers {

/// scheduler_config.json of a UniPCMultistepScheduler, with diffusers' names and Wan's values.
struct UniPcConfig {
  std::int64_t num_train_timesteps = 1000;
  double flow_shift = 1.0;
  std::int64_t solver_order = 2;  ///< 1 or 2
  // Only these values are supported; validate() rejects the rest.
  std::string prediction_type = "flow_prediction";
  std::string solver_type = "bh2";
  std::string final_sigmas_type = "zero";
  bool predict_x0 = true;
  bool use_flow_sigmas = true;
  bool lower_order_final = true;
  std::vector<std::int64_t> disable_corrector = {};
  bool thresholding = false;
  bool use_dynamic_shifting = false;
  std::optional<double> shift_terminal = std::nullopt;
  bool use_karras_sigmas = false;
  bool use_exponential_sigmas = false;
  bool use_beta_sigmas = false;
};

/// Throws Error naming the key and its value: kUnsupported for a variant that Dither does not
/// implement, kInvalidArgument for a value out of range.
void validate(const UniPcConfig& config);

/// One step as linear combinations of tensors. x is the sample that the step starts from, v the
/// transformer's velocity there, x_p the corrected sample of the step before, m0 and m1 the
/// predictions of the clean sample in the step before and the one before that:
///   m = x - sigma v
///   x <- corrector: previous_sample x_p + previous m0 + older m1 + current m
///   next x = predictor: sample x + current m + previous m0
/// m is that of the sample before the correction. Terms that a step does not have are 0: their
/// tensors need not exist.
struct UniPcStep {
  struct Corrector {
    double previous_sample = 0;
    double previous = 0;
    double older = 0;
    double current = 0;
  };
  struct Predictor {
    double sample = 0;
    double current = 0;
    double previous = 0;
  };
  double sigma = 0;
  std::optional<Corrector> corrector;  ///< the first step has none
  Predictor predictor;
};

/// The noise levels of one generation and what its steps compute.
struct UniPcSchedule {
  std::vector<float> sigmas;            ///< [N + 1], from about 1 down to a final 0
  std::vector<std::int64_t> timesteps;  ///< [N], what the transformer sees: 999 first
  std::vector<UniPcStep> steps;         ///< [N]

  std::int64_t num_inference_steps() const { return static_cast<std::int64_t>(timesteps.size()); }
};

/// UniPC with B(h) = exp(h) - 1 (Zhao et al. 2023, "UniPC: a unified predictor-corrector framework
/// for fast sampling of diffusion models", algorithms 1 and 2) for flow matching as diffusers'
/// UniPCMultistepScheduler runs it. With s = flow_shift:
///   sigma_i linear from 1 down to 1/T, without its last of N + 1,
///   sigma' = s sigma / (1 + (s - 1) sigma), the first 1e-6 less if it is 1;
///   timestep = trunc(T sigma').
/// Bit for bit diffusers' timesteps and float32 sigmas; coefficients are computed in float64 from
/// these (there in float32), with alpha = 1 - sigma, lambda = ln alpha - ln sigma (tests/golden/
/// make_unipc.py).
/// Throws as validate(), and kInvalidArgument if num_inference_steps is outside 1 to
/// num_train_timesteps.
UniPcSchedule unipc_schedule(const UniPcConfig& config, std::int64_t num_inference_steps);

}  // namespace dither::schedulers
