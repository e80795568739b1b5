#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "tokenizers/tokenizer.h"
#include "tokenizers/tokenizer_json.h"

/// Any bytes as tokenizer.json: a tokenizer that encodes, or an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dither;
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Tokenizer tokenizer(parse_tokenizer_json(parse_json(text, "input"), "input"));
    for (const std::string_view prompt :
         {"", " a  Red apple's <mask> 12\n", "e\u0301 \uff21\u0301 \u6f22\U0001f34e</s>"}) {
      for (const auto id : tokenizer.encode(prompt)) {
        if (id < 0 || id >= tokenizer.vocab_size()) __builtin_trap();
      }
    }
  } catch (const Error&) {
  }
  return 0;
}
