#pragma once

#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace dither::convert {

/// A regular expression that picks layers by name: a match anywhere in the name counts, as with
/// Python's re.search. The dialect is PCRE2's, a superset of what such patterns use of Python's.
class LayerPattern {
 public:
  /// Throws kInvalidArgument, saying where the pattern is wrong.
  explicit LayerPattern(std::string pattern);

  /// Throws kInvalidArgument when the pattern needs more steps than a sane one would.
  bool matches(std::string_view layer) const;
  const std::string& text() const { return pattern_; }

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const noexcept;
  };

  std::string pattern_;
  std::unique_ptr<pcre2_real_code_8, Free> code_;
};

}  // namespace dither::convert
