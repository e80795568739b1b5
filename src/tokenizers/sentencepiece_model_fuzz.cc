#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "tokenizers/sentencepiece_model.h"
#include "tokenizers/t5_tokenizer.h"

/// Any bytes as spiece.model: a tokenizer that encodes, or an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dither;
  try {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const Tokenizer tokenizer(
        make_t5_tokenizer(parse_sentencepiece_model(bytes, "input"), TokenizerConfig{}));
    for (const std::string_view prompt :
         {"", " a  Red apple's 12\r\n", "e\u0301 \uff21\u0301 \ufb01 \u6f22\U0001f34e</s>"}) {
      for (const auto id : tokenizer.encode(prompt)) {
        if (id < 0 || id >= tokenizer.vocab_size()) __builtin_trap();
      }
    }
  } catch (const Error&) {
  }
  return 0;
}
