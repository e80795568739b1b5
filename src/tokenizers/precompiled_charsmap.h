#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizers/normalized_text.h"

namespace dither {

/// SentencePiece's compiled normalisation rules (nmt_nfkc and kin): a darts-clone double array from
/// UTF-8 prefixes to replacements. Layout: u32 trie size in bytes, the trie's u32 units, then
/// NUL-terminated replacements, all little-endian (sentencepiece, normalizer.cc).
class PrecompiledCharsmap {
 public:
  /// Throws kDataLoss when the sizes contradict each other. What the units say is checked on every
  /// step of a look-up, since they come from a file.
  explicit PrecompiledCharsmap(std::string_view blob);

  /// Replaces as `tokenizers` does: a grapheme cluster of fewer than 6 bytes is looked up whole
  /// and the shortest rule that is a prefix of it replaces all of it; other clusters go character
  /// by character.
  NormalizedText normalize(const NormalizedText& in) const;

 private:
  /// The replacement for the shortest rule that is a prefix of `key`; null data() when none is.
  std::string_view find(std::string_view key) const;

  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace dither
