#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/tensor_source.h"

namespace dither::nn {

/// One tensor that a model needs.
struct TensorSpec {
  std::string name;
  Shape shape;
  std::string sequence = {};  ///< the LayerSequence that it belongs to; empty: none
  std::int64_t layer = 0;     ///< of the sequence
  /// On the device, whatever that of the activations is; absent: theirs.
  std::optional<DType> dtype = std::nullopt;
};

/// Every tensor of a model: the single place where its names and shapes are written down. A model
/// builds its table from its config; the loader holds it against the checkpoint's headers before
/// any weight is touched.
class TensorTable {
 public:
  void add(std::string name, const Shape& shape) {
    specs_.push_back({std::move(name), shape, sequence_, layer_, dtype_});
  }
  /// What is added from now on belongs to layer `layer` of a LayerSequence; to none where
  /// `sequence` is empty.
  void in_layer(std::string sequence, std::int64_t layer = 0) {
    sequence_ = std::move(sequence);
    layer_ = layer;
  }
  /// What is added from now on has this dtype on the device; that of the activations where absent.
  void in_dtype(std::optional<DType> dtype) { dtype_ = dtype; }
  /// "<name>.weight" [out, in] and, with `bias`, "<name>.bias" [out].
  void add_linear(const std::string& name, std::int64_t out, std::int64_t in, bool bias = true);
  /// "<name>.weight" [out, in, kernel, kernel] and "<name>.bias" [out].
  void add_conv2d(const std::string& name, std::int64_t out, std::int64_t in, std::int64_t kernel);
  /// The same with a kernel over frames, rows and columns: [out, in, kt, kh, kw].
  void add_conv3d(const std::string& name, std::int64_t out, std::int64_t in,
                  std::array<std::int64_t, 3> kernel);
  /// "<name>.weight" and "<name>.bias", both [channels].
  void add_norm(const std::string& name, std::int64_t channels);

  /// Names that a checkpoint may carry although the model has no use for them (buffers, tied
  /// copies). A trailing '*' matches any ending.
  void ignore(std::string pattern) { ignored_.push_back(std::move(pattern)); }

  const std::vector<TensorSpec>& specs() const { return specs_; }
  /// The names given to add_linear(): what a checkpoint may hold quantized.
  const std::vector<std::string>& linears() const { return linears_; }

  /// Throws one kDataLoss error that lists every missing, surplus and mis-shaped tensor and those
  /// of integers, or returns. Any floating-point type can be converted on load.
  void check(const TensorSource& source) const;

 private:
  bool ignored(std::string_view name) const;

  std::vector<TensorSpec> specs_;
  std::vector<std::string> linears_;
  std::vector<std::string> ignored_;
  std::string sequence_;
  std::int64_t layer_ = 0;
  std::optional<DType> dtype_;
};

}  // namespace dither::nn
