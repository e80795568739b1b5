#include "io/untrusted_name.h"

#include <fmt/format.h>

#include <cstddef>

namespace dither {

std::string quote(std::string_view text) {
  constexpr std::size_t kMaxBytes = 100;
  std::size_t shown = text.size();
  if (shown > kMaxBytes) {
    shown = kMaxBytes;
    while (shown > 0 && (static_cast<unsigned char>(text[shown]) & 0xC0U) == 0x80U) --shown;
  }
  std::string result = "'";
  for (const char c : text.substr(0, shown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  if (shown < text.size()) result += fmt::format("... ({} bytes)", text.size());
  return result + "'";
}

bool is_plain_file_name(std::string_view name) {
  constexpr std::string_view kForbidden("/\\\0", 3);
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(kForbidden) == std::string_view::npos;
}

}  // namespace dither
