#include "tokenizers/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

void check_text(std::string_view text) {
  if (text.size() > kMaxTextBytes) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("text has {} bytes, at most {} are allowed", text.size(), kMaxTextBytes));
  }
  if (const auto offset = find_invalid_utf8(text)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("text is not valid UTF-8 at byte {} (0x{:02X})", *offset,
                            static_cast<unsigned char>(text[*offset])));
  }
}

}  // namespace

Tokenizer::Tokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
  parts_.added_tokens.finish(parts_.normalizer.get());
}

void Tokenizer::Tokens::add(std::int32_t id, std::uint32_t origin) {
  ids.push_back(id);
  origins.push_back(origin);
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  const Tokens tokens = tokenize(text);
  const auto& [prefix, suffix] = parts_.post_processor;
  std::vector<std::int32_t> ids;
  ids.reserve(prefix.size() + tokens.ids.size() + suffix.size());
  ids.insert(ids.end(), prefix.begin(), prefix.end());
  ids.insert(ids.end(), tokens.ids.begin(), tokens.ids.end());
  ids.insert(ids.end(), suffix.begin(), suffix.end());
  return ids;
}

TokenIds Tokenizer::encode_padded(std::string_view text, std::size_t max_length) const {
  return pad(text, max_length, parts_.post_processor, parts_.padding_side);
}

TokenIds Tokenizer::encode_chat(std::string_view text, std::size_t max_length,
                                PaddingSide side) const {
  return pad(text, max_length, {}, side);
}

TokenIds Tokenizer::pad(std::string_view text, std::size_t max_length, const PostProcessor& around,
                        PaddingSide side) const {
  const auto& [prefix, suffix] = around;
  const std::size_t specials = prefix.size() + suffix.size();
  if (max_length < specials) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("max_length {} leaves no room for the tokenizer's {} special tokens",
                            max_length, specials));
  }
  if (!parts_.pad_id) {
    throw Error(ErrorCode::kInvalidArgument, "the tokenizer has no padding token");
  }
  const Tokens tokens = tokenize(text);
  const std::size_t kept = std::min(tokens.ids.size(), max_length - specials);

  TokenIds result;
  result.count = kept + specials;
  result.full_count = tokens.ids.size() + specials;
  result.kept_bytes = result.truncated() ? tokens.origins[kept] : text.size();
  result.first = side == PaddingSide::kLeft ? max_length - result.count : 0;
  result.ids.assign(max_length, *parts_.pad_id);
  auto out = result.ids.begin() + static_cast<std::ptrdiff_t>(result.first);
  out = std::ranges::copy(prefix, out).out;
  out = std::copy_n(tokens.ids.begin(), kept, out);
  std::ranges::copy(suffix, out);
  return result;
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view token) const {
  if (const auto id = parts_.added_tokens.id_of(token)) return id;
  return parts_.model->id_of(token);
}

std::int32_t Tokenizer::vocab_size() const {
  std::int32_t largest = std::max(parts_.model->max_id(), parts_.added_tokens.max_id());
  for (const auto id : parts_.post_processor.prefix) largest = std::max(largest, id);
  for (const auto id : parts_.post_processor.suffix) largest = std::max(largest, id);
  return std::max(largest, parts_.pad_id.value_or(-1)) + 1;
}

Tokenizer::Tokens Tokenizer::tokenize(std::string_view text) const {
  check_text(text);
  Tokens tokens;
  for (const Segment& segment : parts_.added_tokens.split_raw(text)) {
    if (segment.token) {
      tokens.add(*segment.token, static_cast<std::uint32_t>(segment.span.begin));
    } else {
      tokenize_raw(segment.span.of(text), segment.span.begin, tokens);
    }
  }
  return tokens;
}

void Tokenizer::tokenize_raw(std::string_view text, std::size_t offset, Tokens& tokens) const {
  NormalizedText normalized(text, offset);
  if (parts_.normalizer) normalized = parts_.normalizer->normalize(std::move(normalized));
  const auto segments = parts_.added_tokens.split_normalized(normalized.text);
  if (segments.size() == 1 && !segments.front().token) {
    tokenize_words(std::move(normalized), tokens);
    return;
  }
  for (const Segment& segment : segments) {
    if (segment.token) {
      tokens.add(*segment.token, normalized.origins[segment.span.begin]);
      continue;
    }
    NormalizedText part;
    part.append(normalized, segment.span.begin, segment.span.end);
    tokenize_words(std::move(part), tokens);
  }
}

void Tokenizer::tokenize_words(NormalizedText text, Tokens& tokens) const {
  Words words(std::move(text));
  if (parts_.pre_tokenizer) words = parts_.pre_tokenizer->split(std::move(words));
  for (const Span word : words.spans) {
    parts_.model->tokenize(word.of(words.buffer.text), tokens.ids);
    tokens.origins.resize(tokens.ids.size(), words.buffer.origins[word.begin]);
  }
}

}  // namespace dither
