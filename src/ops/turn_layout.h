#pragma once

#include <cstddef>
#include <vector>

namespace dither::ops {

/// The book-keeping of WeightTurns (ops/backend.h): where in their common memory the parts of
/// models that take turns lie, and which of them can be there. Parts are numbered in the order in
/// which they were added.
class TurnLayout {
 public:
  /// A part of `turn`, behind those that the turn has already.
  std::size_t add(int turn, std::size_t bytes);

  std::size_t offset(std::size_t part) const { return parts_.at(part).offset; }
  std::size_t bytes(std::size_t part) const { return parts_.at(part).bytes; }
  const std::vector<std::size_t>& parts_of(int turn) const { return turns_.at(index(turn)).parts; }
  /// Of the largest turn.
  std::size_t bytes() const;

  /// It is this turn now. Its parts that are neither there nor on their way, which may come when
  /// the work submitted so far is done.
  std::vector<std::size_t> come(int turn);
  /// Nothing is there.
  void leave();
  /// From now on each part of this turn is used at most `uses` times, until the next come().
  void expect_last_uses(int uses) { last_uses_ = uses; }
  /// A part has been used. The parts of the turn behind this one that have room now, which may come
  /// when the work submitted so far is done; none before expect_last_uses().
  std::vector<std::size_t> used(std::size_t part);

 private:
  struct Part {
    int turn = 0;
    std::size_t offset = 0;
    std::size_t bytes = 0;
    bool there = false;  ///< or on its way
    int uses = 0;        ///< since expect_last_uses()
  };
  struct Turn {
    std::vector<std::size_t> parts = {};
    std::size_t bytes = 0;
  };

  static std::size_t index(int turn) { return static_cast<std::size_t>(turn); }
  bool has_room(const Part& part) const;

  std::vector<Part> parts_;
  std::vector<Turn> turns_;
  int turn_ = -1;      ///< whose parts may be used; negative: nobody's
  int last_uses_ = 0;  ///< 0: nobody knows
};

}  // namespace dither::ops
