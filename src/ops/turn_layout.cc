#include "ops/turn_layout.h"

#include <algorithm>

namespace dither::ops {

std::size_t TurnLayout::add(int turn, std::size_t bytes) {
  if (index(turn) >= turns_.size()) turns_.resize(index(turn) + 1);
  Turn& mine = turns_[index(turn)];
  parts_.push_back({.turn = turn, .offset = mine.bytes, .bytes = bytes});
  mine.parts.push_back(parts_.size() - 1);
  mine.bytes += bytes;
  return parts_.size() - 1;
}

std::size_t TurnLayout::bytes() const {
  std::size_t most = 0;
  for (const Turn& turn : turns_) most = std::max(most, turn.bytes);
  return most;
}

std::vector<std::size_t> TurnLayout::come(int turn) {
  turn_ = turn;
  last_uses_ = 0;
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    part.uses = 0;
    if (part.turn == turn && !part.there) missing.push_back(i);
    part.there = part.turn == turn;
  }
  return missing;
}

void TurnLayout::leave() {
  turn_ = -1;
  for (Part& part : parts_) part.there = false;
}

bool TurnLayout::has_room(const Part& part) const {
  return std::ranges::none_of(parts_of(turn_), [&](std::size_t i) {
    const Part& other = parts_[i];
    return other.there && other.offset < part.offset + part.bytes &&
           part.offset < other.offset + other.bytes;
  });
}

std::vector<std::size_t> TurnLayout::used(std::size_t part) {
  Part& mine = parts_.at(part);
  std::vector<std::size_t> coming;
  if (last_uses_ == 0 || mine.turn != turn_ || ++mine.uses < last_uses_) return coming;
  mine.there = false;
  if (index(turn_ + 1) >= turns_.size()) return coming;
  for (const std::size_t i : parts_of(turn_ + 1)) {
    Part& next = parts_[i];
    if (next.there || !has_room(next)) continue;
    next.there = true;
    coming.push_back(i);
  }
  return coming;
}

}  // namespace dither::ops
