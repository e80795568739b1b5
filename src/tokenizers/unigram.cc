#include "tokenizers/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ranges>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "tokenizers/prefix_trie.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

constexpr double kUnknownPenalty = 10.0;  // SentencePiece's kUnkPenalty

// The best way to reach a byte of the word.
struct Node {
  double score = 0;
  std::int32_t id = -1;
  std::int32_t begin = -1;  // -1: not reached
};

void relax(Node& node, double score, std::int32_t id, std::size_t begin) {
  if (node.begin >= 0 && !(score > node.score)) return;
  node = {score, id, static_cast<std::int32_t>(begin)};
}

class Unigram final : public Model {
 public:
  explicit Unigram(const UnigramDefinition& definition) : byte_fallback_(definition.byte_fallback) {
    const auto& pieces = definition.pieces;
    if (pieces.empty()) throw Error(ErrorCode::kDataLoss, "unigram vocabulary is empty");
    if (pieces.size() > static_cast<std::size_t>(kMaxTokenId)) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("unigram vocabulary has {} pieces, at most {} are supported",
                              pieces.size(), kMaxTokenId));
    }
    if (definition.unk_id) {
      if (*definition.unk_id >= pieces.size()) {
        throw Error(ErrorCode::kDataLoss, fmt::format("unk_id {} is outside a vocabulary of {}",
                                                      *definition.unk_id, pieces.size()));
      }
      unk_id_ = static_cast<std::int32_t>(*definition.unk_id);
    }
    std::vector<PrefixTrie::Entry> entries;
    entries.reserve(pieces.size());
    ids_.reserve(pieces.size());
    scores_.reserve(pieces.size());
    for (const Piece& piece : pieces) {
      const auto id = static_cast<std::int32_t>(scores_.size());
      if (!std::isfinite(piece.score)) {
        throw Error(ErrorCode::kDataLoss,
                    fmt::format("piece {} ('{}') has score {}", id, piece.text, piece.score));
      }
      entries.emplace_back(piece.text, id);
      ids_.insert_or_assign(piece.text, id);
      scores_.push_back(piece.score);
    }
    trie_ = PrefixTrie(std::move(entries));
    unknown_score_ = *std::ranges::min_element(scores_) - kUnknownPenalty;
  }

  void tokenize(std::string_view word, std::vector<std::int32_t>& ids) const override {
    const std::vector<Node> best = best_paths(word);
    // From the end of the word back to its start; unknown neighbours fuse on the way.
    std::vector<Cut> cuts;
    for (auto end = static_cast<std::int32_t>(word.size()); end > 0;) {
      const Node& node = best[static_cast<std::size_t>(end)];
      const bool unknown = unk_id_ && node.id == *unk_id_;
      if (unknown && !cuts.empty() && cuts.back().unknown) {
        cuts.back().begin = node.begin;
      } else {
        cuts.push_back({node.begin, end, node.id, unknown});
      }
      end = node.begin;
    }
    for (const auto& cut : std::views::reverse(cuts)) {
      const auto begin = static_cast<std::size_t>(cut.begin);
      const auto text = word.substr(begin, static_cast<std::size_t>(cut.end) - begin);
      if (!cut.unknown || !byte_fallback_ || id_of(text) || !append_bytes(text, ids)) {
        ids.push_back(cut.id);
      }
    }
  }

  std::optional<std::int32_t> id_of(std::string_view token) const override {
    const auto found = ids_.find(token);
    if (found == ids_.end()) return std::nullopt;
    return found->second;
  }

  std::int32_t size() const override { return static_cast<std::int32_t>(scores_.size()); }
  std::int32_t max_id() const override { return size() - 1; }

 private:
  struct Cut {
    std::int32_t begin;
    std::int32_t end;
    std::int32_t id;
    bool unknown;
  };

  std::vector<Node> best_paths(std::string_view word) const {
    std::vector<Node> best(word.size() + 1);
    for (std::size_t begin = 0; begin < word.size();) {
      const double score = best[begin].score;
      const std::size_t character = utf8_length(word[begin]);
      bool known_character = false;
      trie_.for_each_prefix(word.substr(begin), [&](std::size_t length, std::int32_t id) {
        relax(best[begin + length], score + scores_[static_cast<std::size_t>(id)], id, begin);
        known_character |= length == character;
      });
      if (!known_character) {
        if (!unk_id_) {
          throw Error(ErrorCode::kDataLoss,
                      fmt::format("the vocabulary has neither '{}' nor an unknown token",
                                  word.substr(begin, character)));
        }
        relax(best[begin + character], score + unknown_score_, *unk_id_, begin);
      }
      begin += character;
    }
    return best;
  }

  bool append_bytes(std::string_view text, std::vector<std::int32_t>& ids) const {
    const std::size_t before = ids.size();
    for (const char c : text) {
      const auto id = id_of(fmt::format("<0x{:02X}>", static_cast<unsigned char>(c)));
      if (!id) {
        ids.resize(before);
        return false;
      }
      ids.push_back(*id);
    }
    return true;
  }

  Vocabulary ids_;
  std::vector<double> scores_;
  PrefixTrie trie_;
  std::optional<std::int32_t> unk_id_;
  double unknown_score_ = 0;
  bool byte_fallback_;
};

}  // namespace

std::unique_ptr<const Model> make_unigram(const UnigramDefinition& definition) {
  return std::make_unique<Unigram>(definition);
}

}  // namespace dither
