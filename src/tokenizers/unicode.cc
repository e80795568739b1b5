#include "tokenizers/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tokenizers/utf8.h"

namespace dither {
namespace {

struct Range {
  char32_t first;
  char32_t last;
};

// Characters with a combining class that Unicode 9 did not have (UnicodeData.txt, 10 to 15).
constexpr std::array kNewCombiningMarks = {
    Range{0x7FD, 0x7FD},     Range{0x898, 0x89F},     Range{0x8CA, 0x8D3},
    Range{0x9FE, 0x9FE},     Range{0xC3C, 0xC3C},     Range{0xD3B, 0xD3C},
    Range{0xEBA, 0xEBA},     Range{0x1715, 0x1715},   Range{0x1ABF, 0x1ACE},
    Range{0x1DF6, 0x1DFA},   Range{0xA82C, 0xA82C},   Range{0x10D24, 0x10D27},
    Range{0x10EAB, 0x10EAC}, Range{0x10EFD, 0x10EFF}, Range{0x10F46, 0x10F50},
    Range{0x10F82, 0x10F85}, Range{0x11070, 0x11070}, Range{0x1133B, 0x1133B},
    Range{0x1145E, 0x1145E}, Range{0x11839, 0x1183A}, Range{0x1193D, 0x1193E},
    Range{0x11943, 0x11943}, Range{0x119E0, 0x119E0}, Range{0x11A34, 0x11A34},
    Range{0x11A47, 0x11A47}, Range{0x11A99, 0x11A99}, Range{0x11D42, 0x11D42},
    Range{0x11D44, 0x11D45}, Range{0x11D97, 0x11D97}, Range{0x11F41, 0x11F42},
    Range{0x16FF0, 0x16FF1}, Range{0x1E08F, 0x1E08F}, Range{0x1E130, 0x1E136},
    Range{0x1E2AE, 0x1E2AE}, Range{0x1E2EC, 0x1E2EF}, Range{0x1E4EC, 0x1E4EF},
};

// Characters with a compatibility decomposition that Unicode 9 did not have.
constexpr std::array kNewCompatibility = {
    Range{0x32FF, 0x32FF},   Range{0xA7F2, 0xA7F4},   Range{0xAB69, 0xAB69},
    Range{0x10781, 0x10785}, Range{0x10787, 0x107B0}, Range{0x107B2, 0x107BA},
    Range{0x1E030, 0x1E06D}, Range{0x1F16C, 0x1F16C}, Range{0x1FBF0, 0x1FBF9},
};

// Lower case of the letters that utf8proc 2.8 (Unicode 15) does not know yet: `first`..`last`,
// every `step`th, maps to itself + `offset` (UnicodeData.txt 17, the version of `tokenizers`).
struct LowerCaseRange {
  char32_t first;
  char32_t last;
  char32_t step;
  std::int32_t offset;
};
constexpr std::array kNewUpperCase = {
    LowerCaseRange{0x1C89, 0x1C89, 1, 1},      LowerCaseRange{0xA7CB, 0xA7CB, 1, 0x264 - 0xA7CB},
    LowerCaseRange{0xA7CC, 0xA7CE, 2, 1},      LowerCaseRange{0xA7D2, 0xA7D4, 2, 1},
    LowerCaseRange{0xA7DA, 0xA7DA, 1, 1},      LowerCaseRange{0xA7DC, 0xA7DC, 1, 0x19B - 0xA7DC},
    LowerCaseRange{0x10D50, 0x10D65, 1, 0x20}, LowerCaseRange{0x16EA0, 0x16EB8, 1, 0x1B},
};

template <typename Ranges>
auto find_range(const Ranges& ranges, char32_t c) {
  const auto found =
      std::ranges::lower_bound(ranges, c, {}, [](const auto& range) { return range.last; });
  return found != ranges.end() && c >= found->first ? found : ranges.end();
}

int combining_class(char32_t c) {
  const int value = utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
  if (value == 0 || find_range(kNewCombiningMarks, c) != kNewCombiningMarks.end()) return 0;
  return value;
}

// Whether a character can never combine with what precedes it. Only marks and the vowels and final
// consonants of Hangul syllables do.
bool starts_run(char32_t c) {
  if (c >= 0x1160 && c <= 0x11FF) return false;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  const bool mark = category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
                    category == UTF8PROC_CATEGORY_ME;
  return !mark || find_range(kNewCombiningMarks, c) != kNewCombiningMarks.end();
}

// A base character and the marks on it, decomposed: the unit of reordering and composition.
class Run {
 public:
  bool empty() const { return characters_.empty(); }
  void start(std::uint32_t origin) { origin_ = origin; }
  void add(char32_t c) { characters_.push_back(static_cast<utf8proc_int32_t>(c)); }

  void flush(NormalizedText& out) {
    if (characters_.size() > 1) {
      order_marks();
      const auto length = utf8proc_normalize_utf32(
          characters_.data(), static_cast<utf8proc_ssize_t>(characters_.size()),
          static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
      characters_.resize(static_cast<std::size_t>(std::max<utf8proc_ssize_t>(length, 0)));
    }
    std::string text;
    for (const auto c : characters_) append_utf8(text, static_cast<char32_t>(c));
    out.append(text, origin_);
    characters_.clear();
  }

 private:
  // Canonical ordering: marks between two characters of class 0 sort by class, equal ones keep
  // their order. (libstdc++ 12's stable_sort is deprecated in clang's eyes.)
  void order_marks() {
    struct Mark {
      int combining_class;
      std::size_t place;
      utf8proc_int32_t character;
      auto operator<=>(const Mark&) const = default;
    };
    std::vector<Mark> marks;
    for (std::size_t i = 0; i <= characters_.size(); ++i) {
      const int cls =
          i < characters_.size() ? combining_class(static_cast<char32_t>(characters_[i])) : 0;
      if (cls != 0) {
        marks.push_back({cls, i, characters_[i]});
        continue;
      }
      std::ranges::sort(marks);
      for (std::size_t k = 0; k < marks.size(); ++k) {
        characters_[i - marks.size() + k] = marks[k].character;
      }
      marks.clear();
    }
  }

  std::vector<utf8proc_int32_t> characters_;
  std::uint32_t origin_ = 0;
};

}  // namespace

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word_character(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

void append_lower_case(std::string& text, char32_t c) {
  if (c < 0x80) {
    text.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c));
    return;
  }
  if (c == 0x130) {  // Turkish dotted capital I, the one unconditional entry of SpecialCasing.txt
    text += "i\u0307";
    return;
  }
  const auto range = find_range(kNewUpperCase, c);
  if (range != kNewUpperCase.end() && (c - range->first) % range->step == 0) {
    append_utf8(text, static_cast<char32_t>(static_cast<std::int32_t>(c) + range->offset));
    return;
  }
  append_utf8(text, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

NormalizedText compose(const NormalizedText& in, Composition kind) {
  NormalizedText out;
  out.reserve(in.text.size());
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                     (kind == Composition::kCompatibility ? UTF8PROC_COMPAT : 0));
  Run run;
  std::array<utf8proc_int32_t, 32> parts{};  // U+FDFA has the longest decomposition, 18
  for (std::size_t position = 0; position < in.text.size();) {
    const std::size_t begin = position;
    const char32_t c = next_code_point(in.text, position);
    const bool too_new = find_range(kNewCompatibility, c) != kNewCompatibility.end();
    parts[0] = static_cast<utf8proc_int32_t>(c);
    const auto found = too_new
                           ? 1
                           : utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(),
                                                     parts.size(), options, nullptr);
    const auto count = static_cast<std::size_t>(std::max<utf8proc_ssize_t>(found, 0));
    for (std::size_t i = 0; i < count; ++i) {
      const auto part = static_cast<char32_t>(parts[i]);
      if (starts_run(part)) run.flush(out);
      if (run.empty()) run.start(in.origins[begin]);
      run.add(part);
    }
  }
  run.flush(out);
  return out;
}

std::size_t grapheme_length(std::string_view text) {
  std::size_t end = 0;
  auto previous = static_cast<utf8proc_int32_t>(next_code_point(text, end));
  utf8proc_int32_t state = 0;
  while (end < text.size()) {
    std::size_t next = end;
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(text, next));
    if (utf8proc_grapheme_break_stateful(previous, c, &state)) break;
    previous = c;
    end = next;
  }
  return end;
}

}  // namespace dither
