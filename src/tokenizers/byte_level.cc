#include "tokenizers/byte_level.h"

#include <cstddef>

#include "tokenizers/utf8.h"

namespace dither {

const std::array<std::string, 256>& byte_level_alphabet() {
  static const std::array<std::string, 256> kAlphabet = [] {
    std::array<std::string, 256> result;
    char32_t next_stand_in = 0x100;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
      append_utf8(result[byte], printable ? static_cast<char32_t>(byte) : next_stand_in++);
    }
    return result;
  }();
  return kAlphabet;
}

}  // namespace dither
