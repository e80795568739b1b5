#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "tensor/tensor.h"

namespace dither {

/// A tensor that a writer will receive.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

/// Writes a safetensors file tensor by tensor: the header goes first, so every name, dtype and
/// shape must be known at the start, and memory never holds more than the tensor in hand. The file
/// appears under its name when finish() returns.
///
/// Layout of the format's own library, byte for byte: `__metadata__` first, tensors by falling
/// alignment of their dtype, then by name, header padded with spaces to a multiple of 8.
class SafetensorsWriter {
 public:
  /// Throws kInvalidArgument (duplicate, reserved or ill-formed name, a partial last byte, a header
  /// over the format's limit), kNotFound or kIo (the folder).
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> tensors,
                    const std::map<std::string, std::string>& metadata = {});

  /// What write() expects, in this order.
  const std::vector<TensorSpec>& order() const { return order_; }

  /// Appends the next tensor of order(): contiguous, in host memory, of the declared dtype and
  /// shape. Throws kInvalidArgument otherwise, kResourceExhausted on a full disk.
  void write(std::string_view name, const Tensor& tensor);

  /// Appends a part of the next tensor of order(), for one that is made piece by piece. Throws
  /// kInvalidArgument beyond its end, kResourceExhausted on a full disk.
  void write_part(std::string_view name, std::span<const std::byte> bytes);

  /// Throws kInvalidArgument when a declared tensor was not written, else like AtomicFile::commit.
  void finish();

 private:
  const TensorSpec& due(std::string_view name) const;

  std::vector<TensorSpec> order_;
  std::size_t next_ = 0;
  std::uint64_t written_ = 0;  ///< bytes of order_[next_]
  AtomicFile file_;
};

/// Writes a whole file at once.
void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace dither
