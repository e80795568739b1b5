#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dither {

/// The bytes of a safetensors file with this header and data, lying or not.
inline std::string safetensors_bytes(std::string_view header, std::string_view data = {}) {
  std::string file;
  for (unsigned i = 0; i < 8; ++i) {
    file += static_cast<char>(static_cast<std::uint64_t>(header.size()) >> (8 * i));
  }
  return file.append(header).append(data);
}

}  // namespace dither
