#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenizers/model.h"

namespace dither {

/// One entry of a unigram vocabulary; its index is its id.
struct Piece {
  std::string text;
  double score = 0;  ///< log probability
};

/// Unigram language model (Kudo 2018): the cut of a word with the largest sum of scores, by Viterbi
/// in double, as `tokenizers` does it. An unknown character scores the smallest score - 10, and
/// adjacent ones fuse to one unknown token; on a tie the path found first stays.
struct UnigramDefinition {
  std::vector<Piece> pieces;
  std::optional<std::size_t> unk_id;
  bool byte_fallback = false;  ///< Unknown text becomes its bytes, "<0x0A>", if all are known.
};

/// Throws kDataLoss: no pieces, a score that is not finite, unk_id out of range. tokenize() throws
/// kDataLoss where text needs an unknown token and there is none.
std::unique_ptr<const Model> make_unigram(const UnigramDefinition& definition);

}  // namespace dither
