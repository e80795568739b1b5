#pragma once

#include <cstdint>
#include <optional>

#include "tokenizers/tokenizer.h"

namespace dither {

/// The ids of a text encoder's vocabulary that a stand-in tokenizer uses.
struct ByteVocabulary {
  std::int32_t first = 0;    ///< of the bytes
  std::int32_t count = 256;  ///< byte b is id first + b % count
  std::optional<std::int32_t> begin_id = {};
  std::int32_t end_id = 0;
  std::int32_t pad_id = 0;
};

/// Stands in for the tokenizer of a model whose weights are made up: an id for every byte of the
/// text, between begin_id and end_id, so that encoders see a sequence of the true length. The ids
/// mean nothing. Throws kInvalidArgument unless all ids are distinct and not negative.
Tokenizer make_byte_tokenizer(const ByteVocabulary& vocabulary);

/// For a CLIP text model: begin and end of text are the last two ids, padding is the end.
Tokenizer make_byte_clip_tokenizer(std::int64_t vocab_size);
/// For T5: padding is 0, the end 1.
Tokenizer make_byte_t5_tokenizer(std::int64_t vocab_size);
/// For a language model that reads chats: the same ids, which encode_chat() leaves without an end.
Tokenizer make_byte_chat_tokenizer(std::int64_t vocab_size);

}  // namespace dither
