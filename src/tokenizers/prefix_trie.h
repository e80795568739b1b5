#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace dither {

/// A set of byte strings with a non-negative value each, asked which of them start a text.
/// Children of a node lie together in label order; the first byte is looked up in a table.
class PrefixTrie {
 public:
  using Entry = std::pair<std::string_view, std::int32_t>;

  PrefixTrie() : PrefixTrie(std::vector<Entry>{}) {}
  /// Of equal keys the one with the largest value counts; an empty key is ignored. Keys may die
  /// afterwards.
  explicit PrefixTrie(std::vector<Entry> entries);

  /// Calls visit(length, value) for every key that starts `text`, shortest first.
  template <typename Visit>
  void for_each_prefix(std::string_view text, Visit&& visit) const {
    if (text.empty()) return;
    std::int32_t node = first_[static_cast<unsigned char>(text[0])];
    for (std::size_t length = 1; node >= 0; ++length) {
      const std::int32_t value = nodes_[static_cast<std::size_t>(node)].value;
      if (value >= 0) visit(length, value);
      if (length == text.size()) return;
      node = child(node, static_cast<unsigned char>(text[length]));
    }
  }

  /// The longest key that starts `text`, with its length.
  std::optional<std::pair<std::size_t, std::int32_t>> longest_prefix(std::string_view text) const;

 private:
  struct Node {
    std::int32_t value = -1;
    std::uint32_t children = 0;  ///< Index of the first child.
    std::uint16_t child_count = 0;
    std::uint8_t label = 0;
  };

  std::int32_t child(std::int32_t node, unsigned char label) const;

  std::vector<Node> nodes_;
  std::array<std::int32_t, 256> first_{};  ///< Node of each first byte, -1 for none.
};

}  // namespace dither
