#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace dither {

/// Largest token id that a file may give, exclusive. Published vocabularies end near 262,000.
inline constexpr std::int64_t kMaxTokenId = std::int64_t{1} << 24;

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>{}(text);
  }
};

/// Token text to id.
using Vocabulary = std::unordered_map<std::string, std::int32_t, StringHash, std::equal_to<>>;

/// What turns a word into token ids. Immutable, so threads may share it.
class Model {
 public:
  virtual ~Model() = default;
  /// Appends the ids of one word, which is not empty and valid UTF-8. Time grows at most like
  /// n log n with the word's length.
  virtual void tokenize(std::string_view word, std::vector<std::int32_t>& ids) const = 0;
  virtual std::optional<std::int32_t> id_of(std::string_view token) const = 0;
  /// Number of tokens, without added ones.
  virtual std::int32_t size() const = 0;
  /// Largest id, or -1 when there is none.
  virtual std::int32_t max_id() const = 0;
};

}  // namespace dither
