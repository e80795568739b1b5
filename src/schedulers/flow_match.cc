#include "schedulers/flow_match.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "schedulers/rounding.h"

namespace dither::schedulers {
namespace {

void require_default(bool is_default, const char* key) {
  if (!is_default) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("FlowMatchEulerDiscreteScheduler: '{}' is not supported; leave it at "
                            "its default",
                            key));
  }
}

void require_range(bool in_range, const char* key, double value, const char* range) {
  if (!in_range) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("FlowMatchEulerDiscreteScheduler: '{}' is {}, must be {}", key, value, range));
  }
}

// numpy.linspace(1, 1 / n, n): float64, then float32.
std::vector<float> linear_sigmas(int64_t n) {
  std::vector<float> sigmas(static_cast<size_t>(n), 1.0F);
  if (n == 1) return sigmas;
  const double last = 1.0 / static_cast<double>(n);
  const double step = (last - 1.0) / static_cast<double>(n - 1);
  for (size_t i = 1; i + 1 < sigmas.size(); ++i) {
    sigmas[i] = static_cast<float>(static_cast<double>(i) * step + 1.0);
  }
  sigmas.back() = static_cast<float>(last);
  return sigmas;
}

}  // namespace

void validate(const FlowMatchConfig& config) {
  require_default(!config.invert_sigmas, "invert_sigmas");
  require_default(config.shift_terminal.value_or(0.0) == 0.0, "shift_terminal");
  require_default(!config.use_karras_sigmas, "use_karras_sigmas");
  require_default(!config.use_exponential_sigmas, "use_exponential_sigmas");
  require_default(!config.use_beta_sigmas, "use_beta_sigmas");
  require_default(!config.stochastic_sampling, "stochastic_sampling");
  if (config.time_shift_type != "exponential" && config.time_shift_type != "linear") {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("FlowMatchEulerDiscreteScheduler: 'time_shift_type' is '{}', must be "
                            "'exponential' or 'linear'",
                            config.time_shift_type));
  }
  require_range(config.num_train_timesteps >= 1, "num_train_timesteps",
                static_cast<double>(config.num_train_timesteps), "at least 1");
  require_range(std::isfinite(config.shift) && config.shift > 0, "shift", config.shift, "positive");
  require_range(std::isfinite(config.base_shift), "base_shift", config.base_shift, "finite");
  require_range(std::isfinite(config.max_shift), "max_shift", config.max_shift, "finite");
  require_range(config.max_image_seq_len != config.base_image_seq_len, "max_image_seq_len",
                static_cast<double>(config.max_image_seq_len),
                "different from 'base_image_seq_len'");
}

double calculate_shift(int64_t image_seq_len, const FlowMatchConfig& config) {
  const auto base_len = static_cast<double>(config.base_image_seq_len);
  const auto max_len = static_cast<double>(config.max_image_seq_len);
  const double slope = (config.max_shift - config.base_shift) / (max_len - base_len);
  const double intercept = config.base_shift - slope * base_len;
  return static_cast<double>(image_seq_len) * slope + intercept;
}

double flux2_mu(int64_t image_seq_len, int64_t num_inference_steps) {
  constexpr int64_t kLongest = 4300;  // beyond, steps do not matter
  const auto tokens = static_cast<double>(image_seq_len);
  const double at_200 = 0.00016927 * tokens + 0.45666666;
  if (image_seq_len > kLongest) return at_200;
  const double at_10 = 8.73809524e-05 * tokens + 1.89833333;
  const double slope = (at_200 - at_10) / 190.0;
  return slope * static_cast<double>(num_inference_steps) + (at_200 - 200.0 * slope);
}

FlowMatchSchedule flow_match_schedule_for_mu(const FlowMatchConfig& config,
                                             int64_t num_inference_steps, double mu) {
  validate(config);
  if (num_inference_steps < 1 || num_inference_steps > config.num_train_timesteps) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("num_inference_steps is {}, must be 1 to {}", num_inference_steps,
                            config.num_train_timesteps));
  }
  // numpy takes the Python scalars into float32 before it combines them with the array.
  const auto e = static_cast<float>(config.time_shift_type == "linear" ? mu : std::exp(mu));
  const auto shift = static_cast<float>(config.shift);
  const auto shift_minus_1 = static_cast<float>(config.shift - 1.0);
  const auto train_timesteps = static_cast<float>(config.num_train_timesteps);

  FlowMatchSchedule schedule{.sigmas = linear_sigmas(num_inference_steps), .timesteps = {}};
  schedule.timesteps.reserve(schedule.sigmas.size());
  for (float& sigma : schedule.sigmas) {
    sigma = config.use_dynamic_shifting ? e / (e + (1.0F / sigma - 1.0F))
                                        : shift * sigma / (1.0F + shift_minus_1 * sigma);
    schedule.timesteps.push_back(sigma * train_timesteps);
  }
  schedule.sigmas.push_back(0.0F);
  return schedule;
}

FlowMatchSchedule flow_match_schedule(const FlowMatchConfig& config, int64_t num_inference_steps,
                                      int64_t image_seq_len) {
  return flow_match_schedule_for_mu(config, num_inference_steps,
                                    calculate_shift(image_seq_len, config));
}

float model_timestep(float timestep, ModelTime rounding) {
  if (rounding == ModelTime::kExact) return timestep / 1000.0F * 1000.0F;
  const float fraction = round_to_bf16(round_to_bf16(timestep) / 1000.0F);
  return round_to_bf16(fraction * 1000.0F);
}

float model_guidance(float guidance_scale, ModelTime rounding) {
  if (rounding == ModelTime::kExact) return guidance_scale * 1000.0F;
  return round_to_bf16(round_to_bf16(guidance_scale) * 1000.0F);
}

}  // namespace dither::schedulers
