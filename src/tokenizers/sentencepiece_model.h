#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizers/unigram.h"

namespace dither {

/// What we need of a SentencePiece model file (sentencepiece_model.proto, ModelProto).
struct SentencePieceModel {
  enum class Algorithm { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };
  enum class PieceType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

  std::vector<Piece> pieces;
  std::vector<PieceType> types;  ///< One per piece.
  Algorithm algorithm = Algorithm::kUnigram;
  std::size_t unk_id = 0;
  std::string precompiled_charsmap;
};

/// Decodes the protocol buffer; fields that we do not need are skipped. `where` names the file.
/// Throws kDataLoss with the byte offset for anything that is not well-formed.
SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& where);

}  // namespace dither
