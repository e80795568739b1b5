#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizers/model.h"
#include "tokenizers/normalizer.h"
#include "tokenizers/prefix_trie.h"
#include "tokenizers/regex.h"

namespace dither {

/// A token that is cut out of the text before the model sees it.
struct AddedToken {
  std::string content;
  bool single_word = false;  ///< Only where no word character touches it.
  bool lstrip = false;       ///< Takes the white space before it too.
  bool rstrip = false;       ///< Takes the white space after it too.
  bool normalized = false;   ///< Looked for in the normalised text, normalised itself.
};

/// A part of a text: an added token, or text between added tokens.
struct Segment {
  Span span;
  std::optional<std::int32_t> token;
};

/// The added tokens of one tokenizer. Special or not makes no difference when encoding.
class AddedTokens {
 public:
  /// Adds a token or replaces the one with the same content. Its id, returned, is the model's for
  /// this content or the next free one. Throws kDataLoss for empty content.
  std::int32_t add(AddedToken token, const Model& model);

  std::optional<std::int32_t> id_of(std::string_view content) const;
  /// Largest id, or -1 when there is none.
  std::int32_t max_id() const { return max_id_; }

  /// Prepares split(); call once, after the last add(). `normalizer` may be null.
  void finish(const Normalizer* normalizer);

  /// Cuts text at the tokens that are looked for in raw (or in normalised) text, leftmost first, of
  /// those at one place the longest.
  std::vector<Segment> split_raw(std::string_view text) const { return split(raw_, text); }
  std::vector<Segment> split_normalized(std::string_view text) const {
    return split(normalized_, text);
  }

 private:
  struct Entry {
    AddedToken token;
    std::int32_t id;
  };

  // The trie's values are indices into entries_.
  std::vector<Segment> split(const PrefixTrie& trie, std::string_view text) const;

  std::vector<Entry> entries_;
  Vocabulary index_;  // content to its place in entries_
  std::int32_t max_id_ = -1;
  PrefixTrie raw_;
  PrefixTrie normalized_;
};

}  // namespace dither
