#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tokenizers/added_tokens.h"
#include "tokenizers/bpe.h"
#include "tokenizers/json_fields.h"
#include "tokenizers/tokenizer.h"
#include "tokenizers/unigram.h"

namespace dither {

/// A tokenizer.json as `tokenizers` itself would run it. `where` names the file in errors. Throws
/// kDataLoss for what contradicts itself and kUnsupported, naming it, for a component that is not
/// among these: normalizers Sequence, NFC, NFKC, Lowercase, Strip, Replace, Precompiled, Prepend;
/// pre-tokenizers Sequence, Split (Isolated, Removed), ByteLevel, Metaspace, WhitespaceSplit;
/// models BPE, Unigram; post-processors TemplateProcessing, RobertaProcessing, ByteLevel, Sequence.
/// Truncation and padding stored in the file are ignored: the caller of encode_padded() decides.
TokenizerParts parse_tokenizer_json(const Json& root, const std::string& where);

/// Single parts of the file, for the families whose pipeline is fixed by transformers.
BpeDefinition parse_bpe(const JsonFields& model);
/// {"token": id, ...}
Vocabulary parse_bpe_vocabulary(const Json& vocabulary, const std::string& where);
UnigramDefinition parse_unigram(const JsonFields& model);
std::vector<AddedToken> parse_added_tokens(const JsonFields& root);
/// An added token with its flags: `{"content": ..., "lstrip": ...}`.
AddedToken parse_added_token(const JsonFields& fields);
/// The charsmap of the file's Precompiled normalizer, decoded; empty when there is none.
std::string find_precompiled_charsmap(const JsonFields& root);

}  // namespace dither
