#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dither::schedulers {

/// scheduler_config.json of a FlowMatchEulerDiscreteScheduler, with diffusers' names and defaults.
struct FlowMatchConfig {
  int64_t num_train_timesteps = 1000;
  double shift = 1.0;
  bool use_dynamic_shifting = false;
  double base_shift = 0.5;
  double max_shift = 1.15;
  int64_t base_image_seq_len = 256;
  int64_t max_image_seq_len = 4096;
  std::string time_shift_type = "exponential";  ///< or "linear"
  // Only their defaults are supported; validate() rejects the rest.
  bool invert_sigmas = false;
  std::optional<double> shift_terminal = std::nullopt;
  bool use_karras_sigmas = false;
  bool use_exponential_sigmas = false;
  bool use_beta_sigmas = false;
  bool stochastic_sampling = false;
};

/// Throws Error naming the key and its value: kUnsupported for a variant that Dither does not
/// implement, kInvalidArgument for a value out of range.
void validate(const FlowMatchConfig& config);

/// mu(image_seq_len): the line through (base_image_seq_len, base_shift) and (max_image_seq_len,
/// max_shift), beyond its ends too. image_seq_len counts packed latent tokens: (H/16)(W/16).
double calculate_shift(int64_t image_seq_len, const FlowMatchConfig& config);

/// FLUX.2's mu of a picture's tokens and the number of steps, fitted by Black Forest Labs:
///   m200 = 0.00016927 L + 0.45666666,  m10 = 8.73809524e-05 L + 1.89833333,
/// up to 4300 tokens the line through (10, m10) and (200, m200) at num_inference_steps, beyond
/// m200. image_seq_len counts the picture's tokens, not those of references. Source: diffusers'
/// compute_empirical_mu.
double flux2_mu(int64_t image_seq_len, int64_t num_inference_steps);

/// The noise levels of one generation.
struct FlowMatchSchedule {
  std::vector<float> sigmas;     ///< [N + 1], from 1 down to a final 0
  std::vector<float> timesteps;  ///< [N], num_train_timesteps * sigma

  int64_t num_inference_steps() const { return static_cast<int64_t>(timesteps.size()); }

  /// dt < 0 of the Euler step x += dt * velocity from sigmas[step] to sigmas[step + 1].
  float dt(int64_t step) const {
    const auto i = static_cast<size_t>(step);
    return sigmas[i + 1] - sigmas[i];
  }
};

/// diffusers' schedule: sigma_i linear from 1 to 1/N, then, with e = e^mu (or mu if
/// time_shift_type is "linear"), sigma' = e / (e + 1/sigma - 1) under dynamic shifting, else
/// sigma' = shift sigma / (1 + (shift - 1) sigma).
/// float32 arithmetic in diffusers' order: bit for bit its sigmas and timesteps (tests/golden/
/// make_schedules.py; mu is not used without dynamic shifting).
/// Throws as validate(), and kInvalidArgument if num_inference_steps is outside 1 to
/// num_train_timesteps.
FlowMatchSchedule flow_match_schedule_for_mu(const FlowMatchConfig& config,
                                             int64_t num_inference_steps, double mu);

/// The same with FluxPipeline's mu = calculate_shift(image_seq_len, config).
FlowMatchSchedule flow_match_schedule(const FlowMatchConfig& config, int64_t num_inference_steps,
                                      int64_t image_seq_len);

/// Where the reference rounds on the way from a timestep to the transformer's sinusoid.
enum class ModelTime {
  kExact,          ///< float32 throughout: a float32 run of diffusers.
  kReferenceBF16,  ///< After every operation: a bfloat16 run of diffusers.
};

/// FLUX.1's sinusoid argument 1000 (t / 1000), t one of FlowMatchSchedule::timesteps. The bfloat16
/// chain turns 969.1 into 968.
float model_timestep(float timestep, ModelTime rounding);

/// FLUX.1's guidance argument 1000 g. The bfloat16 chain turns 3.5 into 3504.
float model_guidance(float guidance_scale, ModelTime rounding);

}  // namespace dither::schedulers
