#pragma once

#include <filesystem>
#include <memory>

#include "tokenizers/tokenizer.h"

namespace dither {

/// Opens a tokenizer folder of a diffusers pipeline, giving the ids that transformers 5 gives for
/// it. tokenizer.json goes before vocab.json + merges.txt and spiece.model, as there.
///
/// CLIPTokenizer and T5Tokenizer (tokenizer_config.json, or told from the files) take only their
/// vocabulary from the folder, their pipeline is transformers' own; any other class runs its
/// tokenizer.json as written. The unknown token of T5Tokenizer is the files': transformers 5 takes
/// id 2 even where that is another token, as in UMT5's vocabulary. Throws kNotFound, kDataLoss or
/// kUnsupported, naming the file.
std::unique_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& folder);

}  // namespace dither
