#include "backends/cpu/host_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <new>

#include "base/error.h"

namespace dither::cpu {
namespace {

constexpr std::size_t kSmallest = 256;  // class 0; below it the bookkeeping outweighs the block

constexpr std::size_t kLargest = std::size_t{1} << 47U;  // the address space of a process

/// Class 4 e + q holds blocks of kSmallest * 2^e * (1 + q / 4) bytes.
std::size_t class_of(std::size_t bytes) {
  if (bytes <= kSmallest) return 0;
  const std::size_t exponent =
      static_cast<std::size_t>(std::bit_width((bytes - 1) / kSmallest)) - 1;
  const std::size_t quarter = kSmallest << exponent >> 2U;
  return 4 * exponent + (bytes - (kSmallest << exponent) + quarter - 1) / quarter;
}

std::size_t class_bytes(std::size_t size_class) {
  const std::size_t base = kSmallest << (size_class / 4);
  return base + base / 4 * (size_class % 4);
}

}  // namespace

HostMemory::~HostMemory() { trim(); }

void* HostMemory::take(std::size_t size_class) {
  const std::scoped_lock lock(mutex_);
  const std::size_t bytes = class_bytes(size_class);
  auto& blocks = free_[size_class];
  void* block = nullptr;
  if (!blocks.empty()) {
    block = blocks.back();
    blocks.pop_back();
  } else {
    blocks.reserve(blocks.capacity() + 1);  // so that give_back() of any of them cannot fail
    block = ::operator new(bytes, std::align_val_t{kAlignment});
    stats_.reserved_bytes += bytes;
  }
  stats_.allocated_bytes += bytes;
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.allocated_bytes);
  return block;
}

void HostMemory::give_back(void* block, std::size_t size_class) noexcept {
  const std::scoped_lock lock(mutex_);
  stats_.allocated_bytes -= class_bytes(size_class);
  free_[size_class].push_back(block);
}

std::shared_ptr<Storage> HostMemory::allocate(std::size_t bytes, Device* device) {
  try {
    if (bytes > kLargest) throw std::bad_alloc();
    const std::size_t size_class = class_of(bytes);
    void* block = take(size_class);
    std::shared_ptr<void> owner(block, [this, size_class](void* p) { give_back(p, size_class); });
    return std::make_shared<Storage>(static_cast<std::byte*>(block), bytes, device, owner);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::kResourceExhausted,
                fmt::format("cpu: out of memory for a tensor of {} bytes, {} in use", bytes,
                            stats().allocated_bytes));
  }
}

void HostMemory::trim() {
  const std::scoped_lock lock(mutex_);
  for (std::size_t size_class = 0; size_class < kClasses; ++size_class) {
    for (void* block : free_[size_class]) {
      ::operator delete(block, std::align_val_t{kAlignment});
      stats_.reserved_bytes -= class_bytes(size_class);
    }
    free_[size_class].clear();
  }
}

void HostMemory::reset_peak() {
  const std::scoped_lock lock(mutex_);
  stats_.peak_bytes = stats_.allocated_bytes;
}

ops::MemoryStats HostMemory::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

}  // namespace dither::cpu
