#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "io/torch_file.h"
#include "tensor/tensor_source.h"

namespace dither {

/// The calibration that ModelOpt's mto.save wrote beside an export (backbone.pt, transformer.pt):
/// "<layer>.weight_quantizer._amax" and "<layer>.input_quantizer._amax", one number each. That a
/// layer has them does not mean that it is quantized; the export's config says that.
class ModelOptBackbone {
 public:
  /// `path`: the file, or the folder that holds backbone.pt or transformer.pt. Throws kNotFound and
  /// what TorchFile::open() throws.
  static ModelOptBackbone open(const std::filesystem::path& path);

  const std::string& description() const { return description_; }
  const TensorSource& tensors() const { return *file_; }

  /// amax / 448, or 1 for an amax of 0; nothing when the layer was not calibrated. Throws kDataLoss
  /// for an amax that is no single finite number >= 0.
  std::optional<float> weight_scale(std::string_view layer) const;
  std::optional<float> input_scale(std::string_view layer) const;

  /// How the backbone's layer differs from the export's `weight` [N, K]: "its weight is [4, 8]",
  /// "its quantizer is disabled". Empty when they are the same layer. Values are compared by the
  /// first row, in the coarser precision of both; one that either has quantized is not.
  std::string difference(std::string_view layer, const Tensor& weight) const;

 private:
  explicit ModelOptBackbone(std::unique_ptr<TorchFile> file);
  std::optional<float> scale(std::string_view layer, std::string_view quantizer) const;

  std::unique_ptr<TorchFile> file_;
  std::string description_;
};

}  // namespace dither
