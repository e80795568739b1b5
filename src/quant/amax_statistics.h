#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace dither::quant {

/// The magnitudes that calibration saw at one place. Besides the largest one it keeps a histogram,
/// so that a percentile can leave outliers out: its range doubles, neighbouring bins merging,
/// whenever a larger magnitude arrives, so the result does not depend on the order of the values
/// within a bin's width.
class AmaxStatistics {
 public:
  void add(std::span<const float> values);

  bool empty() const { return count_ == 0; }
  /// max |x|; NaN when any x was NaN.
  float amax() const { return amax_; }
  /// The smallest bin edge that at least `percent` of all magnitudes do not exceed, at most amax().
  /// `percent` in (0, 100]. NaN like amax().
  float percentile(double percent) const;

 private:
  static constexpr std::size_t kBins = 4096;

  void grow(float magnitude);

  std::array<std::uint64_t, kBins> bins_{};
  float range_ = 0;  ///< upper edge of the last bin, a power of two
  float amax_ = 0;
  std::uint64_t count_ = 0;
};

}  // namespace dither::quant
