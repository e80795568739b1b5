#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizers/added_tokens.h"
#include "tokenizers/model.h"
#include "tokenizers/normalizer.h"
#include "tokenizers/post_processor.h"
#include "tokenizers/pre_tokenizer.h"

namespace dither {

enum class PaddingSide { kRight, kLeft };

/// A prompt as a text encoder takes it: `ids` has exactly the length that was asked for.
struct TokenIds {
  std::vector<std::int32_t> ids;
  std::size_t first = 0;       ///< Index of the first token that is not padding.
  std::size_t count = 0;       ///< Tokens that are not padding, special ones included.
  std::size_t full_count = 0;  ///< What `count` would be without the length limit.
  /// Bytes of the text that were kept: all of it, or up to the word in which the first dropped
  /// token lies. The rest, text.substr(kept_bytes), is what a warning should show.
  std::size_t kept_bytes = 0;

  bool truncated() const { return count < full_count; }
};

/// The parts of a tokenizer, in the order in which text meets them.
struct TokenizerParts {
  AddedTokens added_tokens;       ///< finish() is called by the tokenizer.
  NormalizerPtr normalizer;       ///< May be null.
  PreTokenizerPtr pre_tokenizer;  ///< May be null.
  std::unique_ptr<const Model> model;
  PostProcessor post_processor;
  std::optional<std::int32_t> pad_id;
  PaddingSide padding_side = PaddingSide::kRight;
  std::optional<std::size_t> model_max_length;
};

/// Text to token ids, identical to Hugging Face `tokenizers`. Immutable once made, so threads may
/// share one.
class Tokenizer {
 public:
  explicit Tokenizer(TokenizerParts parts);

  /// All ids of `text` with the special tokens around them; neither cut nor padded. Text that
  /// spells a special token gives that token, as in the reference. Throws kInvalidArgument for text
  /// that is not UTF-8 (with the byte offset) or longer than kMaxTextBytes.
  std::vector<std::int32_t> encode(std::string_view text) const;

  /// As `tokenizer(text, padding="max_length", truncation=True, max_length=...)` in transformers:
  /// cut on the right so that the special tokens still fit, then padded. Throws like encode(), and
  /// kInvalidArgument when the special tokens alone do not fit or there is no padding token.
  TokenIds encode_padded(std::string_view text, std::size_t max_length) const;

  /// The same for text that spells its special tokens itself, as a chat template does: none are
  /// added, and `side` goes before what the tokenizer's files say about padding.
  TokenIds encode_chat(std::string_view text, std::size_t max_length, PaddingSide side) const;

  /// The id of a token or an added token.
  std::optional<std::int32_t> id_of(std::string_view token) const;
  /// One more than the largest id that can come out: the embedding table needs this many rows.
  std::int32_t vocab_size() const;
  std::optional<std::int32_t> pad_id() const { return parts_.pad_id; }
  /// The length that tokenizer_config.json states, if it states one.
  std::optional<std::size_t> model_max_length() const { return parts_.model_max_length; }

 private:
  /// The text's own tokens, and for each the byte of the text where its word begins.
  struct Tokens {
    std::vector<std::int32_t> ids;
    std::vector<std::uint32_t> origins;

    void add(std::int32_t id, std::uint32_t origin);
  };

  TokenIds pad(std::string_view text, std::size_t max_length, const PostProcessor& around,
               PaddingSide side) const;
  Tokens tokenize(std::string_view text) const;
  void tokenize_raw(std::string_view text, std::size_t offset, Tokens& tokens) const;
  void tokenize_words(NormalizedText text, Tokens& tokens) const;

  TokenizerParts parts_;
};

}  // namespace dither
