#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;

namespace dither {

/// A byte range [begin, end) of a text.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;

  std::size_t size() const { return end - begin; }
  std::string_view of(std::string_view text) const { return text.substr(begin, size()); }
};

/// A regular expression of a tokenizer.json (Oniguruma's syntax there; PCRE2 runs it here).
///
/// The two libraries read the patterns of published tokenizers alike but for two things, which are
/// rewritten before compiling: PCRE2's \s also takes U+180E, and its tables end at Unicode 14 where
/// `tokenizers` has 16, so \p{L}, \p{N} and \p{M} (and their subclasses) get the newer ranges.
class Regex {
 public:
  /// Throws kDataLoss with PCRE2's reason and the offset in the pattern.
  static Regex compile(std::string_view pattern);
  /// Matches exactly this text.
  static Regex literal(std::string_view text);

  /// Every match from left to right, not overlapping; empty matches included. `text` is valid
  /// UTF-8. Throws kResourceExhausted when a pattern backtracks beyond PCRE2's limits.
  std::vector<Span> find_all(std::string_view text) const;

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const noexcept;
  };
  Regex(std::string_view pattern, unsigned options);

  std::string pattern_;
  std::unique_ptr<pcre2_real_code_8, Free> code_;
};

}  // namespace dither
