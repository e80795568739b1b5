#pragma once

#include <cstdint>
#include <vector>

namespace dither {

/// What a tokenizer puts around the tokens of one text. Every post-processor of tokenizer.json
/// comes down to this when there is a single text.
struct PostProcessor {
  std::vector<std::int32_t> prefix;
  std::vector<std::int32_t> suffix;

  bool empty() const { return prefix.empty() && suffix.empty(); }
};

}  // namespace dither
