#include "schedulers/unipc.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>

#include "base/error.h"

namespace dither::schedulers {
namespace {

void require(bool supported, std::string_view key, std::string_view value,
             std::string_view expected) {
  if (!supported) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("UniPCMultistepScheduler: '{}' is {}, only {} is supported", key, value,
                            expected));
  }
}

void require_text(const std::string& value, std::string_view key, std::string_view expected) {
  require(value == expected, key, fmt::format("'{}'", value), fmt::format("'{}'", expected));
}

void require_flag(bool value, std::string_view key, bool expected) {
  require(value == expected, key, fmt::format("{}", value), fmt::format("{}", expected));
}

void require_range(bool in_range, std::string_view key, double value, std::string_view range) {
  if (!in_range) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("UniPCMultistepScheduler: '{}' is {}, must be {}", key, value, range));
  }
}

// A noise level, in terms of which the solver thinks: x = alpha clean + sigma noise.
struct Level {
  double sigma;
  double alpha;
  double lambda;  // ln(alpha / sigma), half of the log signal-to-noise ratio; inf at sigma = 0

  explicit Level(float value)
      : sigma(value), alpha(1.0 - sigma), lambda(std::log(alpha) - std::log(sigma)) {}
};

// expm1(-h), -1 at h = inf.
double growth(double h) { return std::expm1(-h); }

// Algorithm 1 of the paper: B(h) = expm1(-h) for predictions of the clean sample. rho solves
//   [1 1; r 1] rho = [b1; b2],
// which order 1 replaces by 1/2.
UniPcStep::Corrector corrector(const Level& now, const Level& previous, const Level* older) {
  const double h = now.lambda - previous.lambda;
  const double e = growth(h);
  const double scale = now.alpha * e;
  UniPcStep::Corrector result;
  result.previous_sample = now.sigma / previous.sigma;
  if (older == nullptr) {
    result.current = -scale * 0.5;
    result.previous = -scale * 0.5;
    return result;
  }
  const double phi1 = e / -h - 1.0;
  const double phi2 = phi1 / -h - 0.5;
  const double b1 = phi1 / e;
  const double b2 = 2.0 * phi2 / e;
  const double r = (older->lambda - previous.lambda) / h;
  const double rho_older = (b1 - b2) / (1.0 - r);
  const double rho_current = b1 - rho_older;
  result.older = -scale * rho_older / r;
  result.current = -scale * rho_current;
  result.previous = -scale - result.older - result.current;
  return result;
}

// Algorithm 2 of the paper; order 2 has rho = 1/2.
UniPcStep::Predictor predictor(const Level& next, const Level& now, const Level* previous) {
  const double h = next.lambda - now.lambda;
  const double scale = next.alpha * growth(h);
  UniPcStep::Predictor result;
  result.sample = next.sigma / now.sigma;
  if (previous != nullptr) {
    const double r = (previous->lambda - now.lambda) / h;
    result.previous = -scale * 0.5 / r;
  }
  result.current = -scale - result.previous;
  return result;
}

// Shifts far from 1 leave levels that float32 cannot tell apart, and steps of no length.
void check_levels(const std::vector<float>& sigmas, double flow_shift) {
  const bool falling = std::ranges::is_sorted(sigmas, std::ranges::greater_equal{});
  if (sigmas.front() < 1.0F && falling) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("UniPCMultistepScheduler: 'flow_shift' {} with {} steps leaves noise "
                          "levels that float32 cannot tell apart",
                          flow_shift, sigmas.size() - 1));
}

}  // namespace

void validate(const UniPcConfig& config) {
  require_text(config.prediction_type, "prediction_type", "flow_prediction");
  require_text(config.solver_type, "solver_type", "bh2");
  require_text(config.final_sigmas_type, "final_sigmas_type", "zero");
  require_flag(config.predict_x0, "predict_x0", true);
  require_flag(config.use_flow_sigmas, "use_flow_sigmas", true);
  require_flag(config.lower_order_final, "lower_order_final", true);
  require_flag(config.thresholding, "thresholding", false);
  require_flag(config.use_dynamic_shifting, "use_dynamic_shifting", false);
  require_flag(config.use_karras_sigmas, "use_karras_sigmas", false);
  require_flag(config.use_exponential_sigmas, "use_exponential_sigmas", false);
  require_flag(config.use_beta_sigmas, "use_beta_sigmas", false);
  require(config.disable_corrector.empty(), "disable_corrector",
          fmt::format("a list of {}", config.disable_corrector.size()), "an empty list");
  require(config.shift_terminal.value_or(0.0) == 0.0, "shift_terminal",
          fmt::format("{}", config.shift_terminal.value_or(0.0)), "null");
  require(config.solver_order == 1 || config.solver_order == 2, "solver_order",
          fmt::format("{}", config.solver_order), "1 or 2");
  require_range(config.num_train_timesteps >= 1, "num_train_timesteps",
                static_cast<double>(config.num_train_timesteps), "at least 1");
  require_range(std::isfinite(config.flow_shift) && config.flow_shift > 0, "flow_shift",
                config.flow_shift, "positive");
}

UniPcSchedule unipc_schedule(const UniPcConfig& config, std::int64_t num_inference_steps) {
  validate(config);
  if (num_inference_steps < 1 || num_inference_steps > config.num_train_timesteps) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("num_inference_steps is {}, must be 1 to {}", num_inference_steps,
                            config.num_train_timesteps));
  }
  const auto train_timesteps = static_cast<double>(config.num_train_timesteps);
  const double shift = config.flow_shift;
  const auto steps = static_cast<std::size_t>(num_inference_steps);
  // numpy.linspace(1, 1 / T, N + 1) and diffusers' formula, operation by operation in float64.
  const double step = (1.0 / train_timesteps - 1.0) / static_cast<double>(num_inference_steps);
  UniPcSchedule schedule;
  std::vector<Level> levels;
  for (std::size_t i = 0; i < steps; ++i) {
    const double linear = static_cast<double>(i) * step + 1.0;
    double sigma = shift * linear / (1.0 + (shift - 1.0) * linear);
    constexpr double kBelowOne = 1e-6;  // ln alpha stays finite
    if (i == 0 && std::abs(sigma - 1.0) < kBelowOne) sigma -= kBelowOne;
    schedule.timesteps.push_back(static_cast<std::int64_t>(sigma * train_timesteps));
    schedule.sigmas.push_back(static_cast<float>(sigma));
    levels.emplace_back(schedule.sigmas.back());
  }
  schedule.sigmas.push_back(0.0F);
  levels.emplace_back(0.0F);
  check_levels(schedule.sigmas, shift);

  std::size_t order = 0;  // of the step before
  for (std::size_t i = 0; i < steps; ++i) {
    UniPcStep result;
    result.sigma = levels[i].sigma;
    if (i > 0) {
      result.corrector = corrector(levels[i], levels[i - 1], order == 2 ? &levels[i - 2] : nullptr);
    }
    order = std::min({static_cast<std::size_t>(config.solver_order), steps - i, i + 1});
    result.predictor = predictor(levels[i + 1], levels[i], order == 2 ? &levels[i - 1] : nullptr);
    schedule.steps.push_back(result);
  }
  return schedule;
}

}  // namespace dither::schedulers
