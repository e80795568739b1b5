#include "ops/memory_layout.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace dither::ops {
namespace {

constexpr std::int64_t kNotYet = -1;

bool meet(const MemoryUse& a, const MemoryUse& b) { return a.begin < b.end && b.begin < a.end; }

}  // namespace

std::size_t MemoryUses::take(std::size_t bytes) {
  uses_.push_back({.bytes = bytes, .begin = events_++, .end = kNotYet});
  return uses_.size() - 1;
}

void MemoryUses::give_back(std::size_t block) { uses_.at(block).end = events_++; }

std::vector<MemoryUse> MemoryUses::finished() const {
  std::vector<MemoryUse> uses = uses_;
  std::erase_if(uses, [](const MemoryUse& use) { return use.end == kNotYet; });
  return uses;
}

MemoryLayout lay_out(std::vector<MemoryUse> uses) {
  MemoryLayout layout{.uses = std::move(uses), .offsets = {}, .bytes = 0};
  layout.offsets.resize(layout.uses.size());
  std::vector<std::size_t> by_size(layout.uses.size());
  std::iota(by_size.begin(), by_size.end(), std::size_t{0});
  std::ranges::stable_sort(by_size, [&](std::size_t a, std::size_t b) {
    return layout.uses[a].bytes > layout.uses[b].bytes;
  });
  std::vector<std::size_t> placed;  // by offset
  const auto offset = [&](std::size_t block) { return layout.offsets[block]; };
  for (const std::size_t block : by_size) {
    const MemoryUse& use = layout.uses[block];
    std::size_t place = 0;
    for (const std::size_t other : placed) {
      if (!meet(use, layout.uses[other])) continue;
      if (place + use.bytes <= offset(other)) break;
      place = std::max(place, offset(other) + layout.uses[other].bytes);
    }
    layout.offsets[block] = place;
    layout.bytes = std::max(layout.bytes, place + use.bytes);
    placed.insert(std::ranges::upper_bound(placed, place, {}, offset), block);
  }
  return layout;
}

std::optional<std::size_t> LaidOutMemory::take(std::size_t bytes) {
  for (std::size_t i = next_; i < layout_.uses.size(); ++i) {
    if (layout_.uses[i].bytes != bytes) continue;
    const std::size_t offset = layout_.offsets[i];
    if (!free(offset, bytes)) return std::nullopt;
    next_ = i + 1;
    taken_.emplace(offset, bytes);
    return offset;
  }
  return std::nullopt;
}

bool LaidOutMemory::free(std::size_t offset, std::size_t bytes) const {
  const auto next = taken_.lower_bound(offset);
  if (next != taken_.end() && next->first < offset + bytes) return false;
  if (next == taken_.begin()) return true;
  const auto before = std::prev(next);
  return before->first + before->second <= offset;
}

}  // namespace dither::ops
