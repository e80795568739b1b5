#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor_source.h"

namespace dither {

/// Longest JSON header that the format allows, in bytes.
inline constexpr std::uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// A checked safetensors header: every tensor lies inside the file, no two share a byte, no byte
/// belongs to none.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;     ///< sorted by name
  std::vector<std::uint64_t> offsets;  ///< first byte of tensors[i], counted from the file's start
  std::map<std::string, std::string> metadata;
};

/// Parses the header of a safetensors file (u64 little-endian N, N bytes of JSON, data).
/// `file` is the whole file, of which only the first 8 + N bytes are read; `path` is for messages
/// and TensorInfo::file. Throws kDataLoss on anything malformed (duplicate keys and NUL in names
/// included), kUnsupported on an unknown dtype or more than Dims::kMaxRank dimensions.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view path);

}  // namespace dither
