#include "tokenizers/precompiled_charsmap.h"

#include <fmt/format.h>

#include <cstddef>

#include "base/error.h"
#include "tokenizers/unicode.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

// Fields of a double-array unit (darts-clone, darts.h).
constexpr bool has_leaf(std::uint32_t unit) { return ((unit >> 8U) & 1U) == 1; }
constexpr std::uint32_t value(std::uint32_t unit) { return unit & 0x7FFFFFFFU; }
constexpr std::uint32_t label(std::uint32_t unit) { return unit & 0x800000FFU; }
constexpr std::uint32_t offset(std::uint32_t unit) {
  return (unit >> 10U) << ((unit & (1U << 9U)) >> 6U);
}

std::uint32_t read_u32(std::string_view bytes, std::size_t position) {
  std::uint32_t result = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    result |= std::uint32_t{static_cast<unsigned char>(bytes[position + i])} << (8 * i);
  }
  return result;
}

constexpr std::size_t kLongestCluster = 5;  // bytes, see spm_precompiled in `tokenizers`

}  // namespace

PrecompiledCharsmap::PrecompiledCharsmap(std::string_view blob) {
  const std::size_t trie_bytes = blob.size() < 4 ? 0 : read_u32(blob, 0);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > blob.size() - 4) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("precompiled charsmap of {} bytes claims a trie of {} bytes",
                            blob.size(), trie_bytes));
  }
  units_.reserve(trie_bytes / 4);
  for (std::size_t i = 0; i < trie_bytes; i += 4) units_.push_back(read_u32(blob, 4 + i));
  replacements_ = blob.substr(4 + trie_bytes);
  if (const auto bad = find_invalid_utf8(replacements_)) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("precompiled charsmap: replacements are not UTF-8 at byte {}", *bad));
  }
}

std::string_view PrecompiledCharsmap::find(std::string_view key) const {
  std::size_t node = offset(units_[0]);
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) break;
    node ^= byte;
    if (node >= units_.size() || label(units_[node]) != byte) break;
    const std::uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size() || value(units_[node]) >= replacements_.size()) break;
    const std::size_t begin = value(units_[node]);
    // A rule may point anywhere into the replacements, but not between the bytes of a character.
    if ((static_cast<unsigned char>(replacements_[begin]) & 0xC0U) == 0x80) break;
    const std::size_t end = std::min(replacements_.find('\0', begin), replacements_.size());
    return std::string_view(replacements_).substr(begin, end - begin);
  }
  return {};
}

NormalizedText PrecompiledCharsmap::normalize(const NormalizedText& in) const {
  NormalizedText out;
  out.reserve(in.text.size());
  const std::string_view text = in.text;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = begin + grapheme_length(text.substr(begin));
    if (end - begin <= kLongestCluster) {
      const std::string_view whole = find(text.substr(begin, end - begin));
      if (whole.data() != nullptr) {
        out.append(whole, in.origins[begin]);
        begin = end;
        continue;
      }
    }
    while (begin < end) {
      const std::size_t length = utf8_length(text[begin]);
      const std::string_view character = text.substr(begin, length);
      const std::string_view rule = find(character);
      out.append(rule.data() != nullptr ? rule : character, in.origins[begin]);
      begin += length;
    }
  }
  return out;
}

}  // namespace dither
