#include "tokenizers/utf8.h"

namespace dither {
namespace {

constexpr bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80; }

}  // namespace

char32_t next_code_point(std::string_view text, std::size_t& position) {
  const std::size_t length = utf8_length(text[position]);
  const auto lead = static_cast<unsigned char>(text[position]);
  char32_t code_point = length == 1 ? lead : lead & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    code_point = (code_point << 6U) | (static_cast<unsigned char>(text[position + i]) & 0x3FU);
  }
  position += length;
  return code_point;
}

char32_t previous_code_point(std::string_view text, std::size_t& end) {
  do {
    --end;
  } while (end > 0 && is_continuation(text[end]));
  std::size_t position = end;
  return next_code_point(text, position);
}

void append_utf8(std::string& text, char32_t code_point) {
  const auto put = [&text](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
    return;
  }
  if (code_point < 0x800) {
    put(0xC0U | (code_point >> 6U));
  } else {
    if (code_point < 0x10000) {
      put(0xE0U | (code_point >> 12U));
    } else {
      put(0xF0U | (code_point >> 18U));
      put(0x80U | ((code_point >> 12U) & 0x3FU));
    }
    put(0x80U | ((code_point >> 6U) & 0x3FU));
  }
  put(0x80U | (code_point & 0x3FU));
}

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  std::size_t position = 0;
  while (position < text.size()) {
    const auto lead = static_cast<unsigned char>(text[position]);
    if (lead < 0x80) {
      ++position;
      continue;
    }
    const std::size_t length = utf8_length(text[position]);
    if (lead < 0xC2 || lead > 0xF4 || length > text.size() - position) return position;
    for (std::size_t i = 1; i < length; ++i) {
      if (!is_continuation(text[position + i])) return position;
    }
    const auto second = static_cast<unsigned char>(text[position + 1]);
    const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
    const bool surrogate = lead == 0xED && second > 0x9F;
    const bool too_large = lead == 0xF4 && second > 0x8F;
    if (overlong || surrogate || too_large) return position;
    position += length;
  }
  return std::nullopt;
}

}  // namespace dither
