#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tokenizers/added_tokens.h"
#include "tokenizers/json_fields.h"
#include "tokenizers/tokenizer.h"

namespace dither {

/// What tokenizer_config.json and special_tokens_map.json say, as transformers reads them.
struct TokenizerConfig {
  std::string tokenizer_class;              ///< Without a trailing "Fast"; empty when not given.
  std::map<std::string, AddedToken> named;  ///< "pad_token", "eos_token", ...
  std::vector<AddedToken> added_tokens;     ///< added_tokens_decoder, by id.
  std::vector<AddedToken> extra_special_tokens;
  std::optional<std::size_t> model_max_length;
  PaddingSide padding_side = PaddingSide::kRight;
  std::size_t extra_ids = 100;  ///< T5's sentinels.

  /// The content of a named token, or `absent`.
  std::string named_or(const char* name, const char* absent) const;
};

/// Either may be null. special_tokens_map.json counts only where the configuration has no
/// added_tokens_decoder. Throws kDataLoss, and kUnsupported for truncation on the left.
TokenizerConfig parse_tokenizer_config(const JsonFields* config, const JsonFields* special_tokens);

/// Registers the configuration's tokens and takes its lengths and padding, as transformers does
/// once it has a backend: added_tokens_decoder wins over what is there, the others fill in.
void apply_config(const TokenizerConfig& config, TokenizerParts& parts);

}  // namespace dither
