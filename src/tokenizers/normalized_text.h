#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dither {

/// Longest text a tokenizer takes or makes. A prompt is far below; a hostile replacement rule is
/// not.
inline constexpr std::size_t kMaxTextBytes = std::size_t{1} << 26U;

/// Text on its way through the normalizers: valid UTF-8, and for every byte the offset in the
/// caller's text of the character that it came from.
struct NormalizedText {
  std::string text;
  std::vector<std::uint32_t> origins;  ///< One per byte of text, never decreasing.

  NormalizedText() = default;
  /// `source` unchanged; it starts at byte `offset` of the caller's text.
  NormalizedText(std::string_view source, std::size_t offset);

  void reserve(std::size_t bytes);
  /// Appends characters that all come from the one at `origin`. Throws kResourceExhausted beyond
  /// kMaxTextBytes.
  void append(std::string_view characters, std::uint32_t origin);
  /// Appends bytes [begin, end) of `other` with their origins.
  void append(const NormalizedText& other, std::size_t begin, std::size_t end);
};

}  // namespace dither
