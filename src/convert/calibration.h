#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "io/modelopt_backbone.h"
#include "tensor/tensor.h"

namespace dither::convert {

/// Which of a layer's quantizers were calibrated.
struct Calibrated {
  bool weight = false;
  bool input = false;
};

/// A scale and whether it stands in for an amax of 0.
struct CalibratedScale {
  float value = 1;
  bool zero_amax = false;
};

/// The amax of every layer in ModelOpt's backbone.pt. That a layer has some does not mean that it
/// is quantized: calibration precedes the choice of layers.
class Calibration {
 public:
  /// scale = amax / maxbound. `path` as ModelOptBackbone::open() takes it.
  Calibration(const std::filesystem::path& path, float maxbound);

  const std::string& description() const { return backbone_.description(); }
  const std::map<std::string, Calibrated, std::less<>>& layers() const { return layers_; }

  /// `quantizer`: "weight_quantizer" or "input_quantizer", which must be calibrated. Throws
  /// kDataLoss for an amax that is no single finite number >= 0, or too small for a scale.
  CalibratedScale scale(std::string_view layer, std::string_view quantizer) const;

  /// How the backbone's layer differs from `weight` [N, K]: "its weight is [4, 8] in the backbone".
  /// Empty when they are the same, or the backbone holds no weights at all. Compares values of a
  /// few rows; `scale` is that of an F8_E4M3 weight.
  std::string difference(std::string_view layer, const Tensor& weight,
                         std::optional<float> scale) const;

 private:
  ModelOptBackbone backbone_;
  float maxbound_;
  bool has_weights_ = false;
  std::map<std::string, Calibrated, std::less<>> layers_;
};

}  // namespace dither::convert
