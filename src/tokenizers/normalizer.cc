#include "tokenizers/normalizer.h"

#include <algorithm>
#include <utility>

#include "tokenizers/precompiled_charsmap.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<NormalizerPtr> steps) : steps_(std::move(steps)) {}
  NormalizedText normalize(NormalizedText text) const override {
    for (const auto& step : steps_) text = step->normalize(std::move(text));
    return text;
  }

 private:
  std::vector<NormalizerPtr> steps_;
};

class Composing final : public Normalizer {
 public:
  explicit Composing(Composition kind) : kind_(kind) {}
  NormalizedText normalize(NormalizedText text) const override {
    // ASCII is its own NFC and NFKC.
    for (const char c : text.text) {
      if (static_cast<unsigned char>(c) >= 0x80) return compose(text, kind_);
    }
    return text;
  }

 private:
  Composition kind_;
};

class LowerCase final : public Normalizer {
 public:
  NormalizedText normalize(NormalizedText in) const override {
    NormalizedText out;
    out.reserve(in.text.size());
    std::string lower;
    for (std::size_t position = 0; position < in.text.size();) {
      const auto origin = in.origins[position];
      lower.clear();
      append_lower_case(lower, next_code_point(in.text, position));
      out.append(lower, origin);
    }
    return out;
  }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  NormalizedText normalize(NormalizedText in) const override {
    std::size_t begin = 0;
    std::size_t end = in.text.size();
    while (left_ && begin < end) {
      std::size_t next = begin;
      if (!is_white_space(next_code_point(in.text, next))) break;
      begin = next;
    }
    while (right_ && begin < end) {
      std::size_t last = end;
      if (!is_white_space(previous_code_point(in.text, last))) break;
      end = last;
    }
    NormalizedText out;
    out.append(in, begin, end);
    return out;
  }

 private:
  bool left_;
  bool right_;
};

class Replace final : public Normalizer {
 public:
  Replace(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  NormalizedText normalize(NormalizedText in) const override {
    NormalizedText out;
    out.reserve(in.text.size());
    std::size_t done = 0;
    for (const Span match : pattern_.find_all(in.text)) {
      out.append(in, done, match.begin);
      // Like `tokenizers`, the replacement stands where the last replaced character stood.
      const std::size_t place = match.size() > 0 ? match.end - 1 : match.begin;
      out.append(content_,
                 in.origins.empty() ? 0 : in.origins[std::min(place, in.text.size() - 1)]);
      done = match.end;
    }
    out.append(in, done, in.text.size());
    return out;
  }

 private:
  Regex pattern_;
  std::string content_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  NormalizedText normalize(NormalizedText in) const override {
    if (in.text.empty()) return in;
    NormalizedText out;
    out.append(prefix_, in.origins.front());
    out.append(in, 0, in.text.size());
    return out;
  }

 private:
  std::string prefix_;
};

class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(std::string_view charsmap) : charsmap_(charsmap) {}
  NormalizedText normalize(NormalizedText text) const override { return charsmap_.normalize(text); }

 private:
  PrecompiledCharsmap charsmap_;
};

}  // namespace

NormalizerPtr sequence_normalizer(std::vector<NormalizerPtr> steps) {
  return std::make_unique<Sequence>(std::move(steps));
}
NormalizerPtr composing_normalizer(Composition kind) { return std::make_unique<Composing>(kind); }
NormalizerPtr lower_case_normalizer() { return std::make_unique<LowerCase>(); }
NormalizerPtr strip_normalizer(bool left, bool right) {
  return std::make_unique<Strip>(left, right);
}
NormalizerPtr replace_normalizer(Regex pattern, std::string content) {
  return std::make_unique<Replace>(std::move(pattern), std::move(content));
}
NormalizerPtr prepend_normalizer(std::string prefix) {
  return std::make_unique<Prepend>(std::move(prefix));
}
NormalizerPtr precompiled_normalizer(std::string_view charsmap) {
  return std::make_unique<Precompiled>(charsmap);
}

}  // namespace dither
