#include "tokenizers/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/error.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

struct MatchDataFree {
  void operator()(pcre2_match_data* data) const noexcept { pcre2_match_data_free(data); }
};

struct MatchContextFree {
  void operator()(pcre2_match_context* context) const noexcept {
    pcre2_match_context_free(context);
  }
};

// Members that general categories gained between Unicode 14 and 16 (DerivedGeneralCategory.txt).
constexpr std::string_view kNewLu =
    R"(\x{1C89}\x{A7CB}\x{A7CC}\x{A7DA}\x{A7DC}\x{10D50}-\x{10D65})";
constexpr std::string_view kNewLl =
    R"(\x{1C8A}\x{A7CD}\x{A7DB}\x{10D70}-\x{10D85}\x{1DF25}-\x{1DF2A})";
constexpr std::string_view kNewLm =
    R"(\x{10D4E}\x{10D6F}\x{16D40}-\x{16D42}\x{16D6B}\x{16D6C}\x{1E030}-\x{1E06D}\x{1E4EB})";
constexpr std::string_view kNewLo =
    R"(\x{105C0}-\x{105F3}\x{10D4A}-\x{10D4D}\x{10D4F}\x{10EC2}-\x{10EC4}\x{1123F}\x{11240})"
    R"(\x{11380}-\x{11389}\x{1138B}\x{1138E}\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3})"
    R"(\x{11BC0}-\x{11BE0}\x{11F02}\x{11F04}-\x{11F10}\x{11F12}-\x{11F33}\x{1342F})"
    R"(\x{13441}-\x{13446}\x{13460}-\x{143FA}\x{16100}-\x{1611D}\x{16D43}-\x{16D6A}\x{18CFF})"
    R"(\x{1B132}\x{1B155}\x{1E4D0}-\x{1E4EA}\x{1E5D0}-\x{1E5ED}\x{1E5F0}\x{2B739})"
    R"(\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})";
constexpr std::string_view kNewN =
    R"(\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{11F50}-\x{11F59})"
    R"(\x{16130}-\x{16139}\x{16D70}-\x{16D79}\x{1CCF0}-\x{1CCF9}\x{1D2C0}-\x{1D2D3})"
    R"(\x{1E4F0}-\x{1E4F9}\x{1E5F1}-\x{1E5FA})";
constexpr std::string_view kNewM =
    R"(\x{897}\x{CF3}\x{ECE}\x{10D69}-\x{10D6D}\x{10EFC}-\x{10EFF}\x{11241}\x{113B8}-\x{113C0})"
    R"(\x{113C2}\x{113C5}\x{113C7}-\x{113CA}\x{113CC}-\x{113D0}\x{113D2}\x{113E1}\x{113E2})"
    R"(\x{11F00}\x{11F01}\x{11F03}\x{11F34}-\x{11F3A}\x{11F3E}-\x{11F42}\x{11F5A}\x{13440})"
    R"(\x{13447}-\x{13455}\x{1611E}-\x{1612F}\x{1E08F}\x{1E4EC}-\x{1E4EF}\x{1E5EE}\x{1E5EF})";

// The ranges to add to \p{name}, empty for a name that needs none.
std::string new_members(std::string_view name) {
  if (name == "L") return fmt::format("{}{}{}{}", kNewLu, kNewLl, kNewLm, kNewLo);
  if (name == "Lu") return std::string(kNewLu);
  if (name == "Ll") return std::string(kNewLl);
  if (name == "Lm") return std::string(kNewLm);
  if (name == "Lo") return std::string(kNewLo);
  if (name == "N") return std::string(kNewN);
  if (name == "M") return std::string(kNewM);
  return {};
}

// The pattern in PCRE2's terms (see the class comment).
std::string translate(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c != '\\' || i + 1 == pattern.size()) {
      if (c == '[') in_class = true;
      if (c == ']') in_class = false;
      out.push_back(c);
      continue;
    }
    const std::string_view rest = pattern.substr(i);
    if (rest[1] == 's' || rest[1] == 'S') {
      out += rest[1] == 's' ? R"(\p{White_Space})" : R"(\P{White_Space})";
      ++i;
      continue;
    }
    const std::size_t close = rest.starts_with(R"(\p{)") ? rest.find('}') : std::string_view::npos;
    if (close == std::string_view::npos) {
      out += rest.substr(0, 2);
      ++i;
      continue;
    }
    const std::string added = new_members(rest.substr(3, close - 3));
    const std::string_view property = rest.substr(0, close + 1);
    out += in_class || added.empty() ? fmt::format("{}{}", property, added)
                                     : fmt::format("[{}{}]", property, added);
    i += close;
  }
  return out;
}

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

}  // namespace

void Regex::Free::operator()(pcre2_real_code_8* code) const noexcept { pcre2_code_free(code); }

Regex::Regex(std::string_view pattern, unsigned options) : pattern_(pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern_.data()), pattern_.size(),
                            options | PCRE2_UTF, &error, &offset, nullptr));
  if (!code_) {
    throw Error(ErrorCode::kDataLoss, fmt::format("regular expression '{}': {} at byte {}",
                                                  pattern_, pcre2_message(error), offset));
  }
}

Regex Regex::compile(std::string_view pattern) {
  return {translate(pattern), PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C};
}

Regex Regex::literal(std::string_view text) { return {text, PCRE2_LITERAL}; }

std::vector<Span> Regex::find_all(std::string_view text) const {
  const std::unique_ptr<pcre2_match_data, MatchDataFree> data(
      pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  const std::unique_ptr<pcre2_match_context, MatchContextFree> context(
      pcre2_match_context_create(nullptr));
  if (!data || !context) throw Error(ErrorCode::kResourceExhausted, "PCRE2 has no memory");
  // A tokenizer's own pattern stays far below this; a hostile one must not hang the caller.
  pcre2_set_match_limit(context.get(), 4'000'000);

  std::vector<Span> matches;
  std::size_t position = 0;
  while (position <= text.size()) {
    const int count =
        pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), position,
                    PCRE2_NO_UTF_CHECK, data.get(), context.get());
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) {
      throw Error(ErrorCode::kResourceExhausted,
                  fmt::format("regular expression '{}' on {} bytes of text: {}", pattern_,
                              text.size(), pcre2_message(count)));
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
    const Span match{bounds[0], bounds[1]};
    if (match.end < match.begin || match.begin < position) {  // \K inside a lookaround
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("regular expression '{}' moves its match backwards", pattern_));
    }
    matches.push_back(match);
    position = match.end;
    if (match.size() == 0) {
      if (position == text.size()) break;
      position += utf8_length(text[position]);
    }
  }
  return matches;
}

}  // namespace dither
