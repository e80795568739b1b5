#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tokenizers/normalized_text.h"
#include "tokenizers/regex.h"

namespace dither {

/// Text cut into words. Words are ranges of one buffer, in order, not overlapping, not empty; what
/// lies between them was dropped.
struct Words {
  NormalizedText buffer;
  std::vector<Span> spans;

  /// The whole text as one word (none when it is empty).
  explicit Words(NormalizedText text);
  Words() = default;
};

/// A step that cuts words into smaller ones or rewrites them. The model never looks across words.
/// Immutable, so threads may share it.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual Words split(Words words) const = 0;
};

using PreTokenizerPtr = std::unique_ptr<const PreTokenizer>;

enum class SplitBehavior { kIsolated, kRemoved };
enum class PrependScheme { kAlways, kFirst, kNever };

/// One after the other.
PreTokenizerPtr sequence_pre_tokenizer(std::vector<PreTokenizerPtr> steps);
/// Cuts at every match of `pattern`; a match is a word of its own (kIsolated) or dropped
/// (kRemoved). `invert` swaps the roles of the matches and of the text between them.
PreTokenizerPtr split_pre_tokenizer(Regex pattern, SplitBehavior behavior, bool invert);
/// Bytes to GPT-2's alphabet, after GPT-2's own split if `use_regex`; `add_prefix_space` puts a
/// space before a word that has none.
PreTokenizerPtr byte_level_pre_tokenizer(bool add_prefix_space, bool use_regex);
/// SentencePiece's words: spaces become `replacement`, one more is put in front where `scheme` says
/// so and none is there, and a new word starts at each if `split`.
PreTokenizerPtr metaspace_pre_tokenizer(std::string replacement, PrependScheme scheme, bool split);
/// Drops white space, cutting there.
PreTokenizerPtr white_space_pre_tokenizer();

}  // namespace dither
