#include "tokenizers/pre_tokenizer.h"

#include <optional>
#include <string_view>
#include <utility>

#include "tokenizers/byte_level.h"
#include "tokenizers/unicode.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

// GPT-2's words (openai/gpt-2, encoder.py).
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void add_span(std::vector<Span>& spans, std::size_t begin, std::size_t end) {
  if (begin < end) spans.push_back({begin, end});
}

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(std::vector<PreTokenizerPtr> steps) : steps_(std::move(steps)) {}
  Words split(Words words) const override {
    for (const auto& step : steps_) words = step->split(std::move(words));
    return words;
  }

 private:
  std::vector<PreTokenizerPtr> steps_;
};

class Split final : public PreTokenizer {
 public:
  Split(Regex pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)),
        keep_matches_(behavior == SplitBehavior::kIsolated || invert),
        keep_gaps_(behavior == SplitBehavior::kIsolated || !invert) {}

  Words split(Words words) const override {
    std::vector<Span> spans;
    for (const Span word : words.spans) {
      std::size_t done = word.begin;
      for (const Span match : pattern_.find_all(word.of(words.buffer.text))) {
        if (keep_gaps_) add_span(spans, done, word.begin + match.begin);
        if (keep_matches_) add_span(spans, word.begin + match.begin, word.begin + match.end);
        done = word.begin + match.end;
      }
      if (keep_gaps_) add_span(spans, done, word.end);
    }
    words.spans = std::move(spans);
    return words;
  }

 private:
  Regex pattern_;
  bool keep_matches_;
  bool keep_gaps_;
};

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex) : add_prefix_space_(add_prefix_space) {
    if (use_regex) {
      words_ = split_pre_tokenizer(Regex::compile(kGpt2Pattern), SplitBehavior::kIsolated, false);
    }
  }

  Words split(Words words) const override {
    if (add_prefix_space_) words = prefixed(words);
    if (words_) words = words_->split(std::move(words));
    const auto& alphabet = byte_level_alphabet();
    Words out;
    out.buffer.reserve(words.buffer.text.size() * 3 / 2);
    for (const Span word : words.spans) {
      const std::size_t begin = out.buffer.text.size();
      for (std::size_t i = word.begin; i < word.end; ++i) {
        const auto byte = static_cast<unsigned char>(words.buffer.text[i]);
        out.buffer.append(alphabet[byte], words.buffer.origins[i]);
      }
      add_span(out.spans, begin, out.buffer.text.size());
    }
    return out;
  }

 private:
  static Words prefixed(const Words& words) {
    Words out;
    for (const Span word : words.spans) {
      const std::size_t begin = out.buffer.text.size();
      if (words.buffer.text[word.begin] != ' ') {
        out.buffer.append(" ", words.buffer.origins[word.begin]);
      }
      out.buffer.append(words.buffer, word.begin, word.end);
      add_span(out.spans, begin, out.buffer.text.size());
    }
    return out;
  }

  bool add_prefix_space_;
  PreTokenizerPtr words_;
};

class Metaspace final : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}

  Words split(Words words) const override {
    Words out;
    out.buffer.reserve(words.buffer.text.size() * 3 / 2);
    for (const Span word : words.spans) rewrite(words.buffer, word, out);
    return out;
  }

 private:
  void rewrite(const NormalizedText& in, Span word, Words& out) const {
    const std::string_view text = word.of(in.text);
    const std::size_t begin = out.buffer.text.size();
    const bool marked = text.starts_with(' ') || text.starts_with(replacement_);
    const bool wanted = scheme_ == PrependScheme::kAlways ||
                        (scheme_ == PrependScheme::kFirst && in.origins[word.begin] == 0);
    if (wanted && !marked) out.buffer.append(replacement_, in.origins[word.begin]);
    for (std::size_t i = word.begin; i < word.end;) {
      const std::size_t length = utf8_length(in.text[i]);
      if (in.text[i] == ' ') {
        out.buffer.append(replacement_, in.origins[i]);
      } else {
        out.buffer.append(in, i, i + length);
      }
      i += length;
    }
    add_words(out, begin);
  }

  // The text from `begin` on as words: a new one at each replacement.
  void add_words(Words& out, std::size_t begin) const {
    const std::string_view text = out.buffer.text;
    while (split_ && begin < text.size()) {
      const std::size_t next = text.find(replacement_, begin + 1);
      if (next == std::string_view::npos) break;
      add_span(out.spans, begin, next);
      begin = next;
    }
    add_span(out.spans, begin, text.size());
  }

  std::string replacement_;
  PrependScheme scheme_;
  bool split_;
};

class WhiteSpace final : public PreTokenizer {
 public:
  Words split(Words words) const override {
    std::vector<Span> spans;
    for (const Span word : words.spans) {
      std::size_t begin = word.begin;
      for (std::size_t position = word.begin; position < word.end;) {
        const std::size_t at = position;
        if (!is_white_space(next_code_point(words.buffer.text, position))) continue;
        add_span(spans, begin, at);
        begin = position;
      }
      add_span(spans, begin, word.end);
    }
    words.spans = std::move(spans);
    return words;
  }
};

}  // namespace

Words::Words(NormalizedText text) : buffer(std::move(text)) {
  add_span(spans, 0, buffer.text.size());
}

PreTokenizerPtr sequence_pre_tokenizer(std::vector<PreTokenizerPtr> steps) {
  return std::make_unique<Sequence>(std::move(steps));
}
PreTokenizerPtr split_pre_tokenizer(Regex pattern, SplitBehavior behavior, bool invert) {
  return std::make_unique<Split>(std::move(pattern), behavior, invert);
}
PreTokenizerPtr byte_level_pre_tokenizer(bool add_prefix_space, bool use_regex) {
  return std::make_unique<ByteLevel>(add_prefix_space, use_regex);
}
PreTokenizerPtr metaspace_pre_tokenizer(std::string replacement, PrependScheme scheme, bool split) {
  return std::make_unique<Metaspace>(std::move(replacement), scheme, split);
}
PreTokenizerPtr white_space_pre_tokenizer() { return std::make_unique<WhiteSpace>(); }

}  // namespace dither
