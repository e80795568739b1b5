#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "tokenizers/clip_tokenizer.h"

/// First line vocab.json, the rest merges.txt: a CLIP tokenizer that encodes, or an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dither;
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view merges = text.substr(std::min(end + 1, text.size()));
    const Json vocabulary = parse_json(text.substr(0, end), "vocab.json");
    const Tokenizer tokenizer(make_clip_tokenizer(
        parse_vocab_and_merges(vocabulary, "vocab.json", merges, "merges.txt"), {}));
    for (const std::string_view prompt :
         {std::string_view(""), std::string_view("A low, <|endoftext|> \u0130\U0001f34e"), text}) {
      tokenizer.encode_padded(prompt, 77);
    }
  } catch (const Error&) {
  }
  return 0;
}
