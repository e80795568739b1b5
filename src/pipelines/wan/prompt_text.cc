#include "pipelines/wan/prompt_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "base/error.h"
#include "pipelines/wan/html_references.h"
#include "tokenizers/unicode.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

constexpr std::size_t kLongestName = 32;     // code points of a name, its semicolon not counted
constexpr std::size_t kLongestBareName = 6;  // that count without semicolon
constexpr char32_t kReplacement = U'\uFFFD';
constexpr std::uint32_t kLastCodePoint = 0x10FFFF;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex_digit(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// What str.strip() takes: White_Space and four control characters, U+001C..U+001F. `\s` of the
// package regex, with which diffusers collapses white space, is White_Space alone.
bool is_stripped(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

std::string_view strip(std::string_view text) {
  std::size_t begin = 0;
  for (std::size_t next = 0; begin < text.size() && is_stripped(next_code_point(text, next));) {
    begin = next;
  }
  std::size_t end = text.size();
  for (std::size_t previous = end;
       end > begin && is_stripped(previous_code_point(text, previous));) {
    end = previous;
  }
  return text.substr(begin, end - begin);
}

// The table as a map from names, with and without semicolon, to UTF-8.
class NamedReferences {
 public:
  NamedReferences() {
    std::string_view table = html_reference_table();
    for (std::string_view entry = next(table); !entry.empty(); entry = next(table)) {
      const std::size_t name = entry.find(';') + 1;
      const bool bare = entry.ends_with('?');
      const std::string text = decode(entry.substr(name, entry.size() - name - (bare ? 1 : 0)));
      if (bare) texts_.emplace(entry.substr(0, name - 1), text);
      texts_.emplace(entry.substr(0, name), text);
    }
  }

  const std::string* find(std::string_view name) const {
    const auto found = texts_.find(name);
    return found == texts_.end() ? nullptr : &found->second;
  }

 private:
  static std::string_view next(std::string_view& table) {
    constexpr std::string_view kBetween = " \n";
    table.remove_prefix(std::min(table.find_first_not_of(kBetween), table.size()));
    const std::string_view entry = table.substr(0, table.find_first_of(kBetween));
    table.remove_prefix(entry.size());
    return entry;
  }

  // "223e,333" -> the UTF-8 of both.
  static std::string decode(std::string_view codes) {
    std::string text;
    const char* const end = codes.data() + codes.size();
    for (const char* at = codes.data(); at < end; ++at) {
      std::uint32_t code = 0;
      at = std::from_chars(at, end, code, 16).ptr;
      append_utf8(text, code);
    }
    return text;
  }

  std::unordered_map<std::string_view, std::string> texts_;
};

// What follows a '&', up to the end of the reference, and what that becomes.
struct Reference {
  std::size_t bytes = 0;
  std::string text;
};

// What 0x80..0x9F mean: Windows-1252, and themselves where that has nothing.
constexpr std::array<char16_t, 32> kWindows1252 = {
    0x20AC, 0x0081, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0x008D, 0x017D, 0x008F, 0x0090, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x009D, 0x017E, 0x0178};

// The character that a number stands for; none for control and non-characters.
std::optional<char32_t> numbered(std::uint32_t number) {
  if (number == 0 || number > kLastCodePoint || (number >= 0xD800 && number <= 0xDFFF)) {
    return kReplacement;
  }
  if (number >= 0x80 && number <= 0x9F) return kWindows1252[number - 0x80];
  const bool white = number == '\t' || number == '\n' || number == '\f' || number == '\r';
  if ((number < 0x20 && !white) || number == 0x7F) return std::nullopt;
  if ((number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFEU) == 0xFFFE) return std::nullopt;
  return number;
}

// rest: behind "&#".
std::optional<Reference> numeric_reference(std::string_view rest) {
  const bool hex = !rest.empty() && (rest.front() == 'x' || rest.front() == 'X');
  const std::size_t first = hex ? 1 : 0;
  std::size_t end = first;
  while (end < rest.size() && (hex ? is_hex_digit(rest[end]) : is_digit(rest[end]))) ++end;
  if (end == first) return std::nullopt;
  std::uint32_t number = 0;
  const auto [_, error] =
      std::from_chars(rest.data() + first, rest.data() + end, number, hex ? 16 : 10);
  if (error != std::errc{}) number = kLastCodePoint + 1;
  if (end < rest.size() && rest[end] == ';') ++end;
  Reference reference{end + 1, {}};  // with the '#'
  if (const auto character = numbered(number)) append_utf8(reference.text, *character);
  return reference;
}

// rest: behind "&".
std::optional<Reference> named_reference(std::string_view rest, const NamedReferences& names) {
  constexpr std::string_view kEndsName = "\t\n\f <&#;";
  std::size_t end = 0;
  for (std::size_t characters = 0; characters < kLongestName && end < rest.size(); ++characters) {
    if (kEndsName.find(rest[end]) != std::string_view::npos) break;
    end += utf8_length(rest[end]);
  }
  if (end == 0) return std::nullopt;
  const std::size_t whole = end < rest.size() && rest[end] == ';' ? end + 1 : end;
  if (const std::string* text = names.find(rest.substr(0, whole))) return Reference{whole, *text};
  // The longest start that is a name; names of one letter do not exist.
  for (std::size_t length = std::min(whole - 1, kLongestBareName); length > 1; --length) {
    if (const std::string* text = names.find(rest.substr(0, length))) {
      return Reference{length, *text};
    }
  }
  return std::nullopt;
}

}  // namespace

std::string html_unescape(std::string_view text) {
  std::size_t begin = text.find('&');
  if (begin == std::string_view::npos) return std::string(text);
  static const NamedReferences kNames;
  std::string result;
  result.reserve(text.size());
  while (begin != std::string_view::npos) {
    result += text.substr(0, begin);
    text.remove_prefix(begin + 1);
    const auto reference =
        text.starts_with('#') ? numeric_reference(text.substr(1)) : named_reference(text, kNames);
    if (reference) {
      result += reference->text;
      text.remove_prefix(reference->bytes);
    } else {
      result += '&';
    }
    begin = text.find('&');
  }
  result += text;
  return result;
}

std::string clean_prompt(std::string_view text) {
  if (const auto offset = find_invalid_utf8(text)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("prompt is not valid UTF-8 at byte {} (0x{:02X})", *offset,
                            static_cast<unsigned char>(text[*offset])));
  }
  const std::string unescaped = html_unescape(html_unescape(text));
  const std::string_view plain = strip(unescaped);
  std::string result;
  result.reserve(plain.size());
  bool space = false;
  for (std::size_t position = 0; position < plain.size();) {
    const std::size_t begin = position;
    const bool was_space = space;
    space = is_white_space(next_code_point(plain, position));
    if (!space) {
      result += plain.substr(begin, position - begin);
    } else if (!was_space) {
      result += ' ';
    }
  }
  return result;
}

}  // namespace dither
