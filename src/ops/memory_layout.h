#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

/// Memory for work that runs again and again with the same tensors, such as a step that is
/// recorded: watched once, its blocks are laid out in one piece of memory.
namespace dither::ops {

/// A block from event `begin` until event `end`.
struct MemoryUse {
  std::size_t bytes = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// The blocks that work takes and gives back.
class MemoryUses {
 public:
  /// The block's number.
  std::size_t take(std::size_t bytes);
  void give_back(std::size_t block);
  /// Blocks given back so far, in the order in which they were taken: what is kept is no part of
  /// the work that comes again.
  std::vector<MemoryUse> finished() const;

 private:
  std::vector<MemoryUse> uses_;
  std::int64_t events_ = 0;
};

/// Places at which no two blocks overlap that are in use at the same time.
struct MemoryLayout {
  std::vector<MemoryUse> uses;       ///< in the order of `begin`
  std::vector<std::size_t> offsets;  ///< of each
  std::size_t bytes = 0;             ///< of all together
};

/// Largest blocks first, each at the lowest place that is free for as long as it is used (Pisarchyk
/// & Lee 2020, "greedy by size for offset calculation").
MemoryLayout lay_out(std::vector<MemoryUse> uses);

/// Hands a layout's places out while the same work runs again.
class LaidOutMemory {
 public:
  explicit LaidOutMemory(MemoryLayout layout) : layout_(std::move(layout)) {}

  std::size_t bytes() const { return layout_.bytes; }
  /// The place of the next block of this size; absent where the work goes another way than when it
  /// was watched: there is none, or it is still taken.
  std::optional<std::size_t> take(std::size_t bytes);
  void give_back(std::size_t offset) { taken_.erase(offset); }

 private:
  bool free(std::size_t offset, std::size_t bytes) const;

  MemoryLayout layout_;
  std::size_t next_ = 0;                      ///< of the layout's uses
  std::map<std::size_t, std::size_t> taken_;  ///< bytes by offset
};

}  // namespace dither::ops
