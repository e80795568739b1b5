#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizers/normalized_text.h"
#include "tokenizers/regex.h"
#include "tokenizers/unicode.h"

namespace dither {

/// A step that rewrites text before it is cut into words. Immutable, so threads may share it.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual NormalizedText normalize(NormalizedText text) const = 0;
};

using NormalizerPtr = std::unique_ptr<const Normalizer>;

/// One after the other.
NormalizerPtr sequence_normalizer(std::vector<NormalizerPtr> steps);
/// NFC or NFKC.
NormalizerPtr composing_normalizer(Composition kind);
NormalizerPtr lower_case_normalizer();
/// Removes white space at either end.
NormalizerPtr strip_normalizer(bool left, bool right);
/// Every match becomes `content`, verbatim (no group references).
NormalizerPtr replace_normalizer(Regex pattern, std::string content);
/// Puts `prefix` before text that is not empty.
NormalizerPtr prepend_normalizer(std::string prefix);
/// SentencePiece's compiled rules. Throws kDataLoss.
NormalizerPtr precompiled_normalizer(std::string_view charsmap);

}  // namespace dither
