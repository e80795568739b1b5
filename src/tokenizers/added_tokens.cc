#include "tokenizers/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "tokenizers/unicode.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

bool ends_with_word(std::string_view text) {
  std::size_t end = text.size();
  return end > 0 && is_word_character(previous_code_point(text, end));
}

bool starts_with_word(std::string_view text) {
  std::size_t position = 0;
  return !text.empty() && is_word_character(next_code_point(text, position));
}

// `span` of `text` with the white space that the token takes along, not before `floor`.
Span widen(const AddedToken& token, std::string_view text, Span span, std::size_t floor) {
  while (token.lstrip && span.begin > floor) {
    std::size_t begin = span.begin;
    if (!is_white_space(previous_code_point(text, begin))) break;
    span.begin = begin;
  }
  while (token.rstrip && span.end < text.size()) {
    std::size_t end = span.end;
    if (!is_white_space(next_code_point(text, end))) break;
    span.end = end;
  }
  return span;
}

}  // namespace

std::int32_t AddedTokens::add(AddedToken token, const Model& model) {
  if (token.content.empty()) throw Error(ErrorCode::kDataLoss, "an added token is empty");
  const auto [same, inserted] =
      index_.try_emplace(token.content, static_cast<std::int32_t>(entries_.size()));
  if (!inserted) {
    Entry& entry = entries_[static_cast<std::size_t>(same->second)];
    entry.token = std::move(token);
    return entry.id;
  }
  const auto known = model.id_of(token.content);
  const std::int32_t id = known ? *known : std::max(max_id_ + 1, model.size());
  max_id_ = std::max(max_id_, id);
  entries_.push_back({std::move(token), id});
  return id;
}

std::optional<std::int32_t> AddedTokens::id_of(std::string_view content) const {
  const auto found = index_.find(content);
  if (found == index_.end()) return std::nullopt;
  return entries_[static_cast<std::size_t>(found->second)].id;
}

void AddedTokens::finish(const Normalizer* normalizer) {
  std::vector<std::string> normalized(entries_.size());
  std::vector<PrefixTrie::Entry> in_raw;
  std::vector<PrefixTrie::Entry> in_normalized;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const std::string& content = entries_[i].token.content;
    const auto index = static_cast<std::int32_t>(i);
    if (!entries_[i].token.normalized) {
      in_raw.emplace_back(content, index);
      continue;
    }
    normalized[i] =
        normalizer != nullptr ? normalizer->normalize(NormalizedText(content, 0)).text : content;
    in_normalized.emplace_back(normalized[i], index);
  }
  raw_ = PrefixTrie(std::move(in_raw));
  normalized_ = PrefixTrie(std::move(in_normalized));
}

std::vector<Segment> AddedTokens::split(const PrefixTrie& trie, std::string_view text) const {
  std::vector<Segment> segments;
  std::size_t done = 0;
  for (std::size_t position = 0; position < text.size();) {
    const auto match = trie.longest_prefix(text.substr(position));
    if (!match) {
      ++position;
      continue;
    }
    const auto [length, index] = *match;
    const Entry& entry = entries_[static_cast<std::size_t>(index)];
    const Span found{position, position + length};
    position = found.end;
    if (entry.token.single_word &&
        (ends_with_word(text.substr(0, found.begin)) || starts_with_word(text.substr(found.end)))) {
      continue;
    }
    const Span span = widen(entry.token, text, found, done);
    if (done < span.begin) segments.push_back({{done, span.begin}, std::nullopt});
    segments.push_back({span, entry.id});
    done = position = span.end;
  }
  if (done < text.size()) segments.push_back({{done, text.size()}, std::nullopt});
  return segments;
}

}  // namespace dither
