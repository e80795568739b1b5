#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dither::models {

/// Checks the values of one component's config.json; every failure names the component and the key.
class ConfigCheck {
 public:
  /// Larger extents are nonsense in any published model and would overflow products of shapes.
  static constexpr std::int64_t kMaxExtent = 1 << 20;
  static constexpr std::int64_t kMaxLayers = 1 << 10;

  /// `component`: what the model is called in messages, e.g. "T5 encoder".
  explicit ConfigCheck(std::string_view component) : component_(component) {}

  /// Throws kDataLoss unless 1 <= value <= limit.
  void extent(std::string_view key, std::int64_t value, std::int64_t limit = kMaxExtent) const;
  /// Throws kDataLoss unless value is a multiple of `divisor`, a positive number called `what`.
  void multiple(std::string_view key, std::int64_t value, std::int64_t divisor,
                std::string_view what) const;
  /// Throws kDataLoss unless value is `expected`, a number called `what`.
  void equal(std::string_view key, std::int64_t value, std::int64_t expected,
             std::string_view what) const;
  /// Throws kDataLoss unless value is a positive, finite number.
  void positive(std::string_view key, double value) const;
  /// Throws kUnsupported with `message`, which names the key, unless `condition` holds.
  void supported(bool condition, const std::string& message) const;

 private:
  std::string_view component_;
};

}  // namespace dither::models
