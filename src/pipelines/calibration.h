#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "ops/types.h"
#include "quant/amax_statistics.h"

namespace dither {

/// Records the magnitudes that go into linear layers while pictures are drawn: what static
/// activation scales are made of.
class InputCalibration final : public ops::LinearProbe {
 public:
  /// `layers`: names of the layers to record, of one component.
  InputCalibration(std::string component, std::set<std::string, std::less<>> layers)
      : component_(std::move(component)), layers_(std::move(layers)) {}

  void on_linear(const ops::PreparedLinear& weights, const Tensor& x,
                 const ops::LinearEpilogue& epilogue, const Tensor& y) override;

  /// By layer: the largest magnitude, or the given percentile of all. Layers that never ran are
  /// left out.
  std::map<std::string, float> input_amax(std::optional<double> percentile) const;

 private:
  std::string component_;
  std::set<std::string, std::less<>> layers_;
  /// By the first of the layers that are executed as one: they read the same input.
  std::map<std::string, quant::AmaxStatistics, std::less<>> statistics_;
  std::map<std::string, std::string> leader_of_;
};

}  // namespace dither
