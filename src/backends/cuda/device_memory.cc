#include "backends/cuda/device_memory.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <utility>

#include "backends/cuda/cuda_check.h"

namespace dither::cuda {
namespace {

constexpr std::size_t kGranule = 512;
constexpr std::size_t kLargeGranule = std::size_t{2} << 20U;  // the driver's own page

std::size_t rounded(std::size_t bytes) {
  const std::size_t granule = bytes < kLargeGranule ? kGranule : kLargeGranule;
  return std::max(bytes + granule - 1, granule) / granule * granule;
}

double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

/// Free blocks by size. Guarded by the DeviceMemory's mutex.
class DeviceMemory::Pool {
 public:
  explicit Pool(bool recording) : recording_(recording) {}

  /// A recording's blocks are in use as long as it can be replayed, whoever holds a tensor.
  bool recording() const { return recording_; }
  /// The smallest block that is large enough and wastes no more than an eighth; null if none is.
  std::pair<void*, std::size_t> take(std::size_t bytes) {
    const auto found = free_.lower_bound(bytes);
    if (found == free_.end() || found->first > bytes + bytes / 8) return {nullptr, 0};
    const auto block = std::pair(found->second, found->first);
    free_.erase(found);
    return block;
  }
  void put(void* block, std::size_t bytes) { free_.emplace(bytes, block); }
  std::multimap<std::size_t, void*>& free_blocks() { return free_; }

 private:
  bool recording_;
  std::multimap<std::size_t, void*> free_;
};

DeviceMemory::DeviceMemory(std::optional<std::size_t> limit_bytes)
    : limit_bytes_(limit_bytes), common_(std::make_shared<Pool>(false)), current_(common_) {}

DeviceMemory::~DeviceMemory() {
  for (const auto& [bytes, block] : common_->free_blocks()) {
    if (const auto status = cudaFree(block); status != cudaSuccess) {
      spdlog::warn("cuda: freeing {} bytes: {}", bytes, cudaGetErrorString(status));
      return;  // the context is gone, and with it all memory
    }
  }
}

std::shared_ptr<DeviceMemory::Pool> DeviceMemory::make_pool() {
  // The blocks of a recording that is no more serve everybody.
  return {new Pool(true), [this](Pool* dying) {
            const std::scoped_lock lock(mutex_);
            for (const auto& [bytes, block] : dying->free_blocks()) stats_.allocated_bytes -= bytes;
            common_->free_blocks().merge(dying->free_blocks());
            delete dying;
          }};
}

std::shared_ptr<DeviceMemory::Pool> DeviceMemory::use(std::shared_ptr<Pool> pool) {
  const std::scoped_lock lock(mutex_);
  return std::exchange(current_, pool ? std::move(pool) : common_);
}

void DeviceMemory::trim_locked() {
  for (const auto& [bytes, block] : common_->free_blocks()) {
    cudaFree(block);  // waits for the work that may still use it
    stats_.reserved_bytes -= bytes;
  }
  common_->free_blocks().clear();
}

void DeviceMemory::take_locked(std::size_t bytes, const std::function<bool()>& take) {
  const auto attempt = [&] {
    if (limit_bytes_ && stats_.reserved_bytes + bytes > *limit_bytes_) return false;
    if (take()) return true;
    cudaGetLastError();  // not sticky: clear it
    return false;
  };
  bool taken = attempt();
  if (!taken) {
    trim_locked();
    taken = attempt();
  }
  if (taken) {
    stats_.reserved_bytes += bytes;
    return;
  }
  if (limit_bytes_ && stats_.reserved_bytes + bytes > *limit_bytes_) {
    throw Error(ErrorCode::kResourceExhausted,
                fmt::format("cuda: out of memory: {:.1f} MiB more are needed, but {:.1f} of the "
                            "{:.1f} MiB that may be used are taken",
                            mib(bytes), mib(stats_.reserved_bytes), mib(*limit_bytes_)));
  }
  std::size_t free = 0;
  std::size_t total = 0;
  cudaMemGetInfo(&free, &total);
  throw Error(ErrorCode::kResourceExhausted,
              fmt::format("cuda: out of memory: {:.1f} MiB more are needed, {:.1f} of {:.1f} MiB "
                          "are free, {:.1f} MiB are in our tensors",
                          mib(bytes), mib(free), mib(total), mib(stats_.allocated_bytes)));
}

void DeviceMemory::take(std::size_t bytes, const std::function<bool()>& take) {
  const std::scoped_lock lock(mutex_);
  take_locked(bytes, take);
  add_live(bytes);
}

void DeviceMemory::add_live(std::size_t bytes) {
  stats_.allocated_bytes += bytes;
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.allocated_bytes);
}

void DeviceMemory::gave_back(std::size_t bytes) noexcept {
  const std::scoped_lock lock(mutex_);
  stats_.allocated_bytes -= bytes;
  stats_.reserved_bytes -= bytes;
}

std::size_t DeviceMemory::available() const {
  const std::scoped_lock lock(mutex_);
  if (limit_bytes_) return *limit_bytes_ - std::min(*limit_bytes_, stats_.reserved_bytes);
  std::size_t free = 0;
  std::size_t total = 0;
  cudaMemGetInfo(&free, &total);
  return free;
}

std::shared_ptr<Storage> DeviceMemory::allocate(std::size_t bytes, Device* device) {
  const std::size_t wanted = rounded(bytes);
  std::unique_lock lock(mutex_);
  const std::shared_ptr<Pool> pool = current_;
  auto [block, size] = pool->take(wanted);
  if (block == nullptr) {
    take_locked(wanted, [&] { return cudaMalloc(&block, wanted) == cudaSuccess; });
    size = wanted;
    add_live(size);
  } else if (!pool->recording()) {
    add_live(size);
  }
  lock.unlock();
  std::shared_ptr<void> owner(block,
                              [this, pool, held = size](void* p) { give_back(*pool, p, held); });
  return std::make_shared<Storage>(static_cast<std::byte*>(block), bytes, device, owner);
}

void DeviceMemory::give_back(Pool& pool, void* block, std::size_t bytes) noexcept {
  const std::scoped_lock lock(mutex_);
  if (!pool.recording()) stats_.allocated_bytes -= bytes;
  pool.put(block, bytes);
}

void DeviceMemory::trim() {
  const std::scoped_lock lock(mutex_);
  trim_locked();
}

void DeviceMemory::reset_peak() {
  const std::scoped_lock lock(mutex_);
  stats_.peak_bytes = stats_.allocated_bytes;
}

ops::MemoryStats DeviceMemory::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

}  // namespace dither::cuda
