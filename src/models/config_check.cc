#include "models/config_check.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"

namespace dither::models {

void ConfigCheck::extent(std::string_view key, std::int64_t value, std::int64_t limit) const {
  if (value >= 1 && value <= limit) return;
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{} config: {} is {}, expected 1 to {}", component_, key, value, limit));
}

void ConfigCheck::multiple(std::string_view key, std::int64_t value, std::int64_t divisor,
                           std::string_view what) const {
  if (value % divisor == 0) return;
  throw Error(ErrorCode::kDataLoss, fmt::format("{} config: {} is {}, not a multiple of {} ({})",
                                                component_, key, value, divisor, what));
}

void ConfigCheck::equal(std::string_view key, std::int64_t value, std::int64_t expected,
                        std::string_view what) const {
  if (value == expected) return;
  throw Error(ErrorCode::kDataLoss, fmt::format("{} config: {} is {}, expected {} ({})", component_,
                                                key, value, expected, what));
}

void ConfigCheck::positive(std::string_view key, double value) const {
  if (std::isfinite(value) && value > 0) return;
  throw Error(ErrorCode::kDataLoss, fmt::format("{} config: {} is {}, expected a positive number",
                                                component_, key, value));
}

void ConfigCheck::supported(bool condition, const std::string& message) const {
  if (condition) return;
  throw Error(ErrorCode::kUnsupported, fmt::format("{} config: {}", component_, message));
}

}  // namespace dither::models
