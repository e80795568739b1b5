#include "cli/compare_limits.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "base/error.h"
#include "io/untrusted_name.h"

namespace dither::cli {
namespace {

double measured(const Comparison& comparison, const std::string& metric) {
  if (metric == "cosine") {
    if (comparison.steps.empty()) {
      throw Error(ErrorCode::kInvalidArgument, "--fail-below cosine: videos have no latents");
    }
    return comparison.selected().similarity.cosine;
  }
  if (comparison.frames.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "--fail-below psnr: saved trajectories have no pictures");
  }
  return comparison.all_frames.psnr_db;
}

}  // namespace

Limit parse_limit(const std::string& text) {
  const std::size_t equals = text.find('=');
  const std::string metric = text.substr(0, equals);
  double value = 0;
  if (equals != std::string::npos && (metric == "cosine" || metric == "psnr")) {
    const char* const end = text.data() + text.size();
    const auto [stop, failed] = std::from_chars(text.data() + equals + 1, end, value);
    if (failed == std::errc() && stop == end && std::isfinite(value)) return {metric, value};
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("--fail-below: {} is not cosine=NUMBER or psnr=NUMBER", quote(text)));
}

void check_limits(const Comparison& comparison, const std::vector<Limit>& limits) {
  std::string missed;
  for (const Limit& limit : limits) {
    const double value = measured(comparison, limit.metric);
    if (value >= limit.at_least) continue;
    missed += fmt::format("{}{} is {:.6g}, below {}", missed.empty() ? "" : "; ", limit.metric,
                          value, limit.at_least);
  }
  if (!missed.empty()) throw LimitMissed(missed);
}

}  // namespace dither::cli
