#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "tokenizers/normalized_text.h"

namespace dither {

/// Unicode's White_Space property (25 characters, PropList.txt).
bool is_white_space(char32_t c);

/// A character of a word, \w in Unicode's sense (UTS 18, annex C): letter, mark, decimal digit,
/// connector punctuation.
bool is_word_character(char32_t c);

/// The full lower-case mapping of one character, without context (no final sigma), appended.
void append_lower_case(std::string& text, char32_t c);

enum class Composition { kCanonical, kCompatibility };

/// NFC or NFKC (UAX 15) in O(n log n), also for text that is one endless run of marks. Combining
/// classes given after Unicode 9 count as 0 and compatibility decompositions since then do not
/// happen: the normaliser inside `tokenizers` is that old.
NormalizedText compose(const NormalizedText& in, Composition kind);

/// Bytes of the extended grapheme cluster (UAX 29) at the start of non-empty `text`.
std::size_t grapheme_length(std::string_view text);

}  // namespace dither
