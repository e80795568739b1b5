#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "ops/backend.h"
#include "tensor/tensor.h"

namespace dither::cpu {

/// Host memory for tensors. Freed blocks wait in free lists by size class (four classes per power
/// of two, so at most a fifth is slack): the forward passes of a sampling loop ask for the same
/// sizes again and again, and fresh pages cost a fault per 4 KiB. Thread-safe, because a tensor
/// may die on another thread than the one that made it. Outlives its blocks.
class HostMemory {
 public:
  static constexpr std::size_t kAlignment = 64;

  HostMemory() = default;
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  /// Uninitialised, 64-byte aligned; `device` becomes the storage's device. Throws
  /// kResourceExhausted with the size.
  std::shared_ptr<Storage> allocate(std::size_t bytes, Device* device);

  /// Returns cached blocks to the system.
  void trim();

  ops::MemoryStats stats() const;
  void reset_peak();

 private:
  static constexpr std::size_t kClasses = 256;

  void* take(std::size_t size_class);
  void give_back(void* block, std::size_t size_class) noexcept;

  mutable std::mutex mutex_;
  std::array<std::vector<void*>, kClasses> free_;
  ops::MemoryStats stats_;
};

}  // namespace dither::cpu
