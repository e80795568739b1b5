#pragma once

#include <string>
#include <string_view>

#include "tokenizers/sentencepiece_model.h"
#include "tokenizers/tokenizer.h"
#include "tokenizers/tokenizer_config.h"
#include "tokenizers/unigram.h"

namespace dither {

/// T5's and UMT5's tokenizer as transformers 5 builds it (tokenization_t5.py): only the pieces and
/// the charsmap (empty: none) come from files. Charsmap; words between white space, each with ▁ in
/// front; unigram without byte fallback; text </s>, padded with <pad>. One deviation: transformers
/// fixes the unknown token at id 2, which is <s> in UMT5; here it is the one that the file names.
TokenizerParts make_t5_tokenizer(UnigramDefinition unigram, std::string_view charsmap,
                                 const TokenizerConfig& config);

/// The same from a spiece.model: its pieces, then the sentinels <extra_id_99> .. <extra_id_0>.
/// Control and user-defined pieces become added tokens. Throws kUnsupported when it is no unigram.
TokenizerParts make_t5_tokenizer(SentencePieceModel model, TokenizerConfig config);

}  // namespace dither
