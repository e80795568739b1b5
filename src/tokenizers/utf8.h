#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace dither {

/// Bytes of the character whose first byte this is. For text that is known to be valid UTF-8.
constexpr std::size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// The character at `position` of valid UTF-8; advances `position` past it.
char32_t next_code_point(std::string_view text, std::size_t& position);

/// The character that ends at `end` > 0 of valid UTF-8; moves `end` to its first byte.
char32_t previous_code_point(std::string_view text, std::size_t& end);

void append_utf8(std::string& text, char32_t code_point);

/// Offset of the first byte that does not start a well-formed character (Unicode 15, table 3-7:
/// no surrogates, no overlong forms, nothing above U+10FFFF), or nothing when all is well.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

}  // namespace dither
