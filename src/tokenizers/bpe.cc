#include "tokenizers/bpe.h"

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <queue>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include "base/error.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

struct Merge {
  std::int32_t rank;
  std::int32_t result;
};

constexpr std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32U) |
         static_cast<std::uint32_t>(right);
}

using Merges = std::unordered_map<std::uint64_t, Merge>;

// A word under merging: symbols in a doubly linked list and a heap of the merges that are possible,
// lowest rank first, leftmost first. O(n log n).
class Word {
 public:
  void add(std::int32_t id) {
    const auto size = static_cast<std::int32_t>(symbols_.size());
    symbols_.push_back({id, size - 1, size + 1});
  }

  void merge_all(const Merges& merges) {
    if (symbols_.empty()) return;
    symbols_.back().next = kNone;
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(symbols_.size()); ++i) {
      propose(merges, i);
    }
    while (!heap_.empty()) {
      const Candidate candidate = heap_.top();
      heap_.pop();
      const auto found = current_merge(merges, candidate.position);
      // Either side may have been merged away since, or into something else.
      if (!found || found->result != candidate.result) continue;
      Symbol& left = at(candidate.position);
      Symbol& right = at(left.next);
      left.id = candidate.result;
      left.next = right.next;
      right.id = kNone;
      if (left.next != kNone) at(left.next).previous = candidate.position;
      if (left.previous != kNone) propose(merges, left.previous);
      propose(merges, candidate.position);
    }
  }

  void append_ids(std::vector<std::int32_t>& ids) const {
    for (const Symbol& symbol : symbols_) {
      if (symbol.id != kNone) ids.push_back(symbol.id);
    }
  }

 private:
  static constexpr std::int32_t kNone = -1;

  struct Symbol {
    std::int32_t id;  // kNone once merged into its left neighbour
    std::int32_t previous;
    std::int32_t next;
  };
  struct Candidate {
    std::int32_t rank;
    std::int32_t position;
    std::int32_t result;
    bool operator<(const Candidate& other) const {  // std::priority_queue takes the largest first
      return std::tie(other.rank, other.position) < std::tie(rank, position);
    }
  };

  Symbol& at(std::int32_t position) { return symbols_[static_cast<std::size_t>(position)]; }

  // The merge of the symbol at `position` with the one after it, as things stand now.
  std::optional<Merge> current_merge(const Merges& merges, std::int32_t position) {
    const Symbol& left = at(position);
    if (left.id == kNone || left.next == kNone) return std::nullopt;
    const auto found = merges.find(pair_key(left.id, at(left.next).id));
    if (found == merges.end()) return std::nullopt;
    return found->second;
  }

  void propose(const Merges& merges, std::int32_t position) {
    if (const auto merge = current_merge(merges, position)) {
      heap_.push({merge->rank, position, merge->result});
    }
  }

  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> heap_;
};

class Bpe final : public Model {
 public:
  explicit Bpe(BpeDefinition definition) : definition_(std::move(definition)) {
    check_ids();
    const auto& merges = definition_.merges;
    merges_.reserve(merges.size());
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const auto& [left, right] = merges[rank];
      const std::int32_t left_id = require(left, rank);
      const std::int32_t right_id = require(right, rank);
      const std::int32_t result = require(left + right, rank);
      merges_[pair_key(left_id, right_id)] = {static_cast<std::int32_t>(rank), result};
    }
    definition_.merges.clear();
    if (definition_.unk_token) {
      unk_id_ = id_of(*definition_.unk_token);
      if (!unk_id_) {
        throw Error(ErrorCode::kDataLoss,
                    fmt::format("unk_token '{}' is not in the vocabulary", *definition_.unk_token));
      }
    }
  }

  void tokenize(std::string_view text, std::vector<std::int32_t>& ids) const override {
    if (definition_.ignore_merges) {
      if (const auto id = id_of(text)) {
        ids.push_back(*id);
        return;
      }
    }
    Word word;
    add_symbols(text, word);
    word.merge_all(merges_);
    word.append_ids(ids);
  }

  std::optional<std::int32_t> id_of(std::string_view token) const override {
    const auto found = definition_.vocabulary.find(token);
    if (found == definition_.vocabulary.end()) return std::nullopt;
    return found->second;
  }

  std::int32_t size() const override {
    return static_cast<std::int32_t>(definition_.vocabulary.size());
  }
  std::int32_t max_id() const override { return max_id_; }

 private:
  void check_ids() {
    for (const auto& [token, id] : definition_.vocabulary) {
      if (id < 0 || id >= kMaxTokenId) {
        throw Error(ErrorCode::kDataLoss,
                    fmt::format("token '{}' has id {}, outside 0..{}", token, id, kMaxTokenId - 1));
      }
      max_id_ = std::max(max_id_, id);
    }
    std::vector<bool> seen(static_cast<std::size_t>(max_id_) + 1);
    for (const auto& [token, id] : definition_.vocabulary) {
      if (seen[static_cast<std::size_t>(id)]) {
        throw Error(ErrorCode::kDataLoss,
                    fmt::format("id {} belongs to '{}' and to another token", id, token));
      }
      seen[static_cast<std::size_t>(id)] = true;
    }
  }

  std::int32_t require(std::string_view token, std::size_t rank) const {
    if (const auto id = id_of(token)) return *id;
    throw Error(ErrorCode::kDataLoss,
                fmt::format("merge {} ('{}' '{}') needs token '{}', which is not in the vocabulary",
                            rank + 1, definition_.merges[rank].first,
                            definition_.merges[rank].second, token));
  }

  // The word's characters as symbols; the last carries the end-of-word suffix.
  void add_symbols(std::string_view text, Word& word) const {
    bool previous_unknown = false;
    std::string symbol;
    for (std::size_t position = 0; position < text.size();) {
      const std::size_t length = utf8_length(text[position]);
      symbol.assign(text, position, length);
      position += length;
      if (position == text.size()) symbol += definition_.end_of_word_suffix;
      if (const auto id = id_of(symbol)) {
        word.add(*id);
        previous_unknown = false;
        continue;
      }
      if (definition_.byte_fallback && add_bytes(symbol, word)) {
        previous_unknown = false;
        continue;
      }
      // Without an unk_token an unknown character is dropped.
      if (unk_id_ && !(previous_unknown && definition_.fuse_unk)) word.add(*unk_id_);
      previous_unknown = true;
    }
  }

  bool add_bytes(std::string_view symbol, Word& word) const {
    std::vector<std::int32_t> ids;
    for (const char c : symbol) {
      const auto id = id_of(fmt::format("<0x{:02X}>", static_cast<unsigned char>(c)));
      if (!id) return false;
      ids.push_back(*id);
    }
    for (const auto id : ids) word.add(id);
    return true;
  }

  BpeDefinition definition_;
  Merges merges_;
  std::optional<std::int32_t> unk_id_;
  std::int32_t max_id_ = -1;
};

}  // namespace

std::unique_ptr<const Model> make_bpe(BpeDefinition definition) {
  return std::make_unique<Bpe>(std::move(definition));
}

}  // namespace dither
