#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "ops/backend.h"
#include "ops/memory_layout.h"
#include "tensor/tensor.h"

namespace dither::cuda {

/// Where tensors begin, in bytes, wherever their memory comes from: kernels are chosen by
/// alignment, and must be the same for all.
inline constexpr std::size_t kTensorAlignment = 512;
constexpr std::size_t aligned_bytes(std::size_t bytes) {
  return (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
}

/// Device memory for tensors. Freed blocks wait in a pool and are handed out again; since all work
/// of a backend runs in the order of one stream, a block may be reused as soon as its tensor is
/// gone. A recording has a pool of its own: what a replay writes to must not be anybody else's. Its
/// work has run once before, watched, so that the pool is one piece of memory in which its tensors
/// have their places.
/// Thread-safe, because a tensor may die on another thread. Outlives its blocks.
class DeviceMemory {
 public:
  class Pool;

  /// `limit_bytes`: as much as may be taken from the driver; absent: all that it has.
  explicit DeviceMemory(std::optional<std::size_t> limit_bytes = std::nullopt);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// Uninitialised, 512-byte aligned, from the current pool; `device` becomes the storage's device.
  /// Throws kResourceExhausted with the sizes that are missing, live and cached.
  std::shared_ptr<Storage> allocate(std::size_t bytes, Device* device);

  /// The common pool's blocks; `uses`, which the pool guards, learns when each is used.
  std::shared_ptr<Pool> watch(std::shared_ptr<ops::MemoryUses> uses);
  /// Of a recording of the work that was watched.
  std::shared_ptr<Pool> make_pool(const ops::MemoryUses& uses);
  /// Makes `pool` the current one (null: the common pool) and returns the one before.
  std::shared_ptr<Pool> use(std::shared_ptr<Pool> pool);

  /// Gives cached blocks back to the driver. Waits for the device.
  void trim();

  /// Memory that somebody else takes from the driver: `take` does, and returns false when there is
  /// none; it may be called twice, cached blocks having been given back. Throws as allocate().
  void take(std::size_t bytes, const std::function<bool()>& take);
  /// And has given back.
  void gave_back(std::size_t bytes) noexcept;

  /// What can still be taken: of the limit, or of what the device has free.
  std::size_t available() const;
  ops::MemoryStats stats() const;
  void reset_peak();

 private:
  class CommonPool;
  class WatchedPool;
  class RecordingPool;

  // Under the mutex, as all that pools do.
  void take_locked(std::size_t bytes, const std::function<bool()>& take);
  std::byte* malloc_locked(std::size_t bytes);
  void trim_locked();
  void add_live(std::size_t bytes);

  std::optional<std::size_t> limit_bytes_;
  mutable std::mutex mutex_;
  std::shared_ptr<CommonPool> common_;
  std::shared_ptr<Pool> current_;
  ops::MemoryStats stats_;
};

}  // namespace dither::cuda
