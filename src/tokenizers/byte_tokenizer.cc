#include "tokenizers/byte_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace dither {
namespace {

class ByteModel final : public Model {
 public:
  ByteModel(std::int32_t first, std::int32_t count) : first_(first), count_(count) {}

  void tokenize(std::string_view word, std::vector<std::int32_t>& ids) const override {
    for (const char byte : word) ids.push_back(first_ + static_cast<unsigned char>(byte) % count_);
  }
  std::optional<std::int32_t> id_of(std::string_view /*token*/) const override {
    return std::nullopt;
  }
  std::int32_t size() const override { return count_; }
  std::int32_t max_id() const override { return first_ + count_ - 1; }

 private:
  std::int32_t first_;
  std::int32_t count_;
};

std::int32_t byte_count(std::int64_t vocab_size, std::int64_t specials) {
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(vocab_size - specials, 0, 256));
}

}  // namespace

Tokenizer make_byte_tokenizer(const ByteVocabulary& vocabulary) {
  const auto& [first, count, begin_id, end_id, pad_id] = vocabulary;
  const auto among_bytes = [&](std::int32_t id) { return id >= first && id - first < count; };
  if (first < 0 || count < 1 || end_id < 0 || pad_id < 0 || begin_id.value_or(0) < 0 ||
      begin_id == end_id || among_bytes(end_id) || among_bytes(pad_id) ||
      (begin_id && among_bytes(*begin_id))) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("no room for a byte tokenizer: bytes {}..{}, end {}, padding {}", first,
                            first + count - 1, end_id, pad_id));
  }
  TokenizerParts parts;
  parts.model = std::make_unique<ByteModel>(first, count);
  if (begin_id) parts.post_processor.prefix = {*begin_id};
  parts.post_processor.suffix = {end_id};
  parts.pad_id = pad_id;
  return Tokenizer(std::move(parts));
}

Tokenizer make_byte_clip_tokenizer(std::int64_t vocab_size) {
  const auto last = static_cast<std::int32_t>(vocab_size - 1);
  return make_byte_tokenizer({.first = 0,
                              .count = byte_count(vocab_size, 2),
                              .begin_id = last - 1,
                              .end_id = last,
                              .pad_id = last});
}

Tokenizer make_byte_t5_tokenizer(std::int64_t vocab_size) {
  return make_byte_tokenizer(
      {.first = 2, .count = byte_count(vocab_size, 2), .end_id = 1, .pad_id = 0});
}

Tokenizer make_byte_chat_tokenizer(std::int64_t vocab_size) {
  return make_byte_t5_tokenizer(vocab_size);
}

}  // namespace dither
