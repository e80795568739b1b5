#include "tokenizers/prefix_trie.h"

#include <algorithm>

namespace dither {

PrefixTrie::PrefixTrie(std::vector<Entry> entries) {
  first_.fill(-1);
  std::erase_if(entries, [](const Entry& entry) { return entry.first.empty(); });
  std::ranges::sort(entries);

  // Breadth first, so that siblings become neighbours: a node stands for the entries
  // [begin, end) that share their first `depth` bytes.
  struct Group {
    std::size_t begin;
    std::size_t end;
    std::size_t depth;
  };
  nodes_.emplace_back();
  std::vector<Group> groups = {{0, entries.size(), 0}};
  for (std::size_t node = 0; node < groups.size(); ++node) {
    auto [begin, end, depth] = groups[node];
    while (begin < end && entries[begin].first.size() == depth) {
      nodes_[node].value = entries[begin++].second;
    }
    nodes_[node].children = static_cast<std::uint32_t>(nodes_.size());
    while (begin < end) {
      const char label = entries[begin].first[depth];
      std::size_t next = begin;
      while (next < end && entries[next].first[depth] == label) ++next;
      groups.push_back({begin, next, depth + 1});
      nodes_.emplace_back();
      nodes_.back().label = static_cast<std::uint8_t>(label);
      ++nodes_[node].child_count;
      begin = next;
    }
  }
  const Node& root = nodes_.front();
  for (std::uint32_t i = root.children; i < root.children + root.child_count; ++i) {
    first_[nodes_[i].label] = static_cast<std::int32_t>(i);
  }
}

std::int32_t PrefixTrie::child(std::int32_t node, unsigned char label) const {
  const Node& parent = nodes_[static_cast<std::size_t>(node)];
  const auto begin = nodes_.begin() + parent.children;
  const auto end = begin + parent.child_count;
  const auto found =
      std::lower_bound(begin, end, label,
                       [](const Node& candidate, unsigned char x) { return candidate.label < x; });
  return found != end && found->label == label ? static_cast<std::int32_t>(found - nodes_.begin())
                                               : -1;
}

std::optional<std::pair<std::size_t, std::int32_t>> PrefixTrie::longest_prefix(
    std::string_view text) const {
  std::optional<std::pair<std::size_t, std::int32_t>> longest;
  for_each_prefix(text, [&](std::size_t length, std::int32_t value) { longest = {length, value}; });
  return longest;
}

}  // namespace dither
