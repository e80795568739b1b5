#include "quant/amax_statistics.h"

#include <algorithm>
#include <cmath>

#include "quant/fp8.h"

namespace dither::quant {

void AmaxStatistics::add(std::span<const float> values) {
  const float largest = quant::amax(values);
  if (!(largest <= amax_)) amax_ = std::isnan(amax_) ? amax_ : largest;  // a NaN stays
  count_ += values.size();
  if (!std::isfinite(largest)) return;
  grow(largest);
  if (range_ == 0) {
    bins_[0] += values.size();  // zeros only, so far
    return;
  }
  const float per_unit = static_cast<float>(kBins) / range_;  // exact: powers of two
  for (const float value : values) {
    const auto bin = static_cast<std::size_t>(std::fabs(value) * per_unit);
    ++bins_[std::min(bin, kBins - 1)];
  }
}

void AmaxStatistics::grow(float magnitude) {
  if (magnitude == 0 || magnitude < range_) return;
  if (range_ == 0) {
    range_ = std::ldexp(1.0F, std::ilogb(magnitude) + 1);
    return;
  }
  while (magnitude >= range_) {
    for (std::size_t i = 0; i < kBins / 2; ++i) bins_[i] = bins_[2 * i] + bins_[2 * i + 1];
    std::fill(bins_.begin() + kBins / 2, bins_.end(), 0U);
    range_ *= 2;
  }
}

float AmaxStatistics::percentile(double percent) const {
  if (!std::isfinite(amax_) || count_ == 0) return amax_;
  const double wanted = percent / 100 * static_cast<double>(count_);
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < kBins; ++i) {
    below += bins_[i];
    if (static_cast<double>(below) >= wanted) {
      return std::min(amax_, range_ * static_cast<float>(i + 1) / static_cast<float>(kBins));
    }
  }
  return amax_;
}

}  // namespace dither::quant
