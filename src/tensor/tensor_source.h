#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace dither {

/// What a checkpoint says about one tensor, known from its header alone.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::string file;  ///< where it is stored, for messages
};

/// Named tensors of a checkpoint, whatever its container (safetensors, shards, a .pt archive).
/// Listing reads headers only; read() returns a view of the mapped file.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  /// What to call this checkpoint in a message: a path.
  virtual std::string_view description() const = 0;
  /// Every tensor, sorted by name.
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  /// Null when there is none of that name.
  virtual const TensorInfo* find(std::string_view name) const = 0;
  /// A contiguous host tensor. Throws kNotFound.
  virtual Tensor read(std::string_view name) const = 0;
  /// The caller has copied this tensor elsewhere: its pages need not stay resident.
  virtual void release(const Tensor& tensor) const = 0;
};

}  // namespace dither
