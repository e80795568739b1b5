#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "io/checkpoint.h"
#include "io/safetensors_header.h"

namespace dither {

/// A memory-mapped safetensors file. Opening it reads the header only; tensors are views of the
/// mapping, which lives as long as the file object or any tensor read from it.
class SafetensorsFile final : public Checkpoint {
 public:
  /// Throws kNotFound, kIo, and what parse_safetensors_header() throws.
  static std::unique_ptr<SafetensorsFile> open(const std::filesystem::path& path);

  std::string_view description() const override { return description_; }
  const std::vector<TensorInfo>& tensors() const override { return header_.tensors; }
  const TensorInfo* find(std::string_view name) const override;
  /// Zero-copy, except for a tensor that is misaligned for its dtype in the file: that one is
  /// copied to aligned memory, so that data<T>() may always be used. The bytes are read-only.
  Tensor read(std::string_view name) const override;
  void release(const Tensor& tensor) const override;
  std::vector<FileMetadata> file_metadata() const override {
    return {{description_, header_.metadata}};
  }

  /// The header's `__metadata__`.
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

 private:
  explicit SafetensorsFile(std::shared_ptr<const MappedFile> file);

  std::shared_ptr<const MappedFile> file_;
  std::shared_ptr<Storage> storage_;  ///< the whole mapping
  std::string description_;
  SafetensorsHeader header_;
};

}  // namespace dither
