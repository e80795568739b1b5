#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tokenizers/model.h"

namespace dither {

/// Byte-pair encoding (Sennrich et al. 2016) as `tokenizers` does it.
struct BpeDefinition {
  Vocabulary vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;  ///< Best rank first.
  std::optional<std::string> unk_token;
  std::string end_of_word_suffix;
  bool fuse_unk = false;  ///< Adjacent unknown characters give one unk_token.
  bool byte_fallback =
      false;  ///< An unknown character becomes its bytes, "<0x0A>", if all are known.
  bool ignore_merges = false;  ///< A word that is a token is taken whole.
};

/// Throws kDataLoss: a merge of or to a token that is not there, two tokens with one id, an id out
/// of range, an unk_token that is not there.
std::unique_ptr<const Model> make_bpe(BpeDefinition definition);

}  // namespace dither
