#pragma once

#include <string>
#include <string_view>

#include "tokenizers/bpe.h"
#include "tokenizers/json_fields.h"
#include "tokenizers/tokenizer.h"
#include "tokenizers/tokenizer_config.h"

namespace dither {

/// vocab.json and merges.txt of a byte-level BPE. The `where`s name the files. Throws kDataLoss
/// with the line of a merge that is not two tokens.
BpeDefinition parse_vocab_and_merges(const Json& vocabulary, const std::string& vocabulary_where,
                                     std::string_view merges, const std::string& merges_where);

/// CLIP's tokenizer as transformers 5 builds it (tokenization_clip.py): only the vocabulary and the
/// merges come from files. NFC, white space collapsed, lower case; words, single digits and runs of
/// symbols; GPT-2's bytes; BPE with </w>; <|startoftext|> text <|endoftext|>, padded with
/// <|endoftext|> unless the configuration names other tokens. No ftfy, no Chinese special case:
/// transformers 5 has neither.
TokenizerParts make_clip_tokenizer(BpeDefinition bpe, const TokenizerConfig& config);

}  // namespace dither
