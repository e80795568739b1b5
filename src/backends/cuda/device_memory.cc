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
  std::multimap<std::size_t, void*> free_;
};

DeviceMemory::DeviceMemory() : common_(std::make_shared<Pool>()), current_(common_) {}

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
  return {new Pool, [this](Pool* dying) {
            const std::scoped_lock lock(mutex_);
            common_->free_blocks().merge(dying->free_blocks());
            delete dying;
          }};
}

std::shared_ptr<DeviceMemory::Pool> DeviceMemory::use(std::shared_ptr<Pool> pool) {
  const std::scoped_lock lock(mutex_);
  return std::exchange(current_, pool ? std::move(pool) : common_);
}

void* DeviceMemory::from_driver(std::size_t bytes) {
  void* block = nullptr;
  if (cudaMalloc(&block, bytes) == cudaSuccess) return block;
  cudaGetLastError();  // not sticky: clear it
  for (const auto& [size, cached] : common_->free_blocks()) {
    cudaFree(cached);  // waits for the work that may still use it
    stats_.reserved_bytes -= size;
  }
  common_->free_blocks().clear();
  const cudaError_t status = cudaMalloc(&block, bytes);
  if (status == cudaSuccess) return block;
  cudaGetLastError();
  std::size_t free = 0;
  std::size_t total = 0;
  cudaMemGetInfo(&free, &total);
  throw Error(ErrorCode::kResourceExhausted,
              fmt::format("cuda: out of memory: {:.1f} MiB more are needed, {:.1f} of {:.1f} MiB "
                          "are free, {:.1f} MiB are in our tensors",
                          mib(bytes), mib(free), mib(total), mib(stats_.allocated_bytes)));
}

std::shared_ptr<Storage> DeviceMemory::allocate(std::size_t bytes, Device* device) {
  const std::size_t wanted = rounded(bytes);
  std::unique_lock lock(mutex_);
  const std::shared_ptr<Pool> pool = current_;
  auto [block, size] = pool->take(wanted);
  if (block == nullptr) {
    block = from_driver(wanted);
    size = wanted;
    stats_.reserved_bytes += size;
  }
  stats_.allocated_bytes += size;
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.allocated_bytes);
  lock.unlock();
  std::shared_ptr<void> owner(block,
                              [this, pool, held = size](void* p) { give_back(*pool, p, held); });
  return std::make_shared<Storage>(static_cast<std::byte*>(block), bytes, device, owner);
}

void DeviceMemory::give_back(Pool& pool, void* block, std::size_t bytes) noexcept {
  const std::scoped_lock lock(mutex_);
  stats_.allocated_bytes -= bytes;
  pool.put(block, bytes);
}

void DeviceMemory::trim() {
  const std::scoped_lock lock(mutex_);
  for (const auto& [bytes, block] : common_->free_blocks()) {
    cudaFree(block);
    stats_.reserved_bytes -= bytes;
  }
  common_->free_blocks().clear();
}

ops::MemoryStats DeviceMemory::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

}  // namespace dither::cuda
