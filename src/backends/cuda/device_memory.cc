#include "backends/cuda/device_memory.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <utility>

#include "backends/cuda/cuda_check.h"

namespace dither::cuda {
namespace {

constexpr std::size_t kLargeGranule = std::size_t{2} << 20U;  // the driver's own page

std::size_t multiple_of(std::size_t granule, std::size_t bytes) {
  return std::max(bytes + granule - 1, granule) / granule * granule;
}
std::size_t rounded(std::size_t bytes) {
  return multiple_of(bytes < kLargeGranule ? kTensorAlignment : kLargeGranule, bytes);
}

double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

struct Block {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
};

/// Blocks that nobody uses, by size.
class FreeBlocks {
 public:
  /// The smallest that is large enough and wastes no more than an eighth; no data if there is none.
  Block take(std::size_t bytes) {
    const auto found = blocks_.lower_bound(bytes);
    if (found == blocks_.end() || found->first > bytes + bytes / 8) return {};
    return {blocks_.extract(found).mapped(), found->first};
  }
  void put(const Block& block) { blocks_.emplace(block.bytes, block.data); }
  void merge(FreeBlocks& others) { blocks_.merge(others.blocks_); }

  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& [bytes, data] : blocks_) sum += bytes;
    return sum;
  }
  /// Gives all back to the driver, which waits for the work that may still use them.
  cudaError_t release() {
    cudaError_t first = cudaSuccess;
    for (const auto& [bytes, data] : blocks_) {
      const cudaError_t status = cudaFree(data);
      if (first == cudaSuccess) first = status;
    }
    blocks_.clear();
    return first;
  }

 private:
  std::multimap<std::size_t, std::byte*> blocks_;
};

}  // namespace

/// Where tensors' blocks come from and go back to, under the DeviceMemory's mutex.
class DeviceMemory::Pool {
 public:
  explicit Pool(DeviceMemory& memory) : memory_(memory) {}
  virtual ~Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// `bytes` is a multiple of kTensorAlignment. Throws as allocate().
  virtual Block take(std::size_t bytes) = 0;
  virtual void put(const Block& block) noexcept = 0;

 protected:
  DeviceMemory& memory() { return memory_; }

 private:
  DeviceMemory& memory_;
};

class DeviceMemory::CommonPool final : public Pool {
 public:
  using Pool::Pool;

  Block take(std::size_t bytes) override {
    const std::size_t wanted = rounded(bytes);
    Block block = free_.take(wanted);
    if (block.data == nullptr) block = {memory().malloc_locked(wanted), wanted};
    memory().add_live(block.bytes);
    return block;
  }
  void put(const Block& block) noexcept override {
    memory().stats_.allocated_bytes -= block.bytes;
    free_.put(block);
  }
  FreeBlocks& free_blocks() { return free_; }

 private:
  FreeBlocks free_;
};

class DeviceMemory::WatchedPool final : public Pool {
 public:
  WatchedPool(DeviceMemory& memory, std::shared_ptr<ops::MemoryUses> uses)
      : Pool(memory), uses_(std::move(uses)) {}

  Block take(std::size_t bytes) override {
    const Block block = memory().common_->take(bytes);
    numbers_[block.data] = uses_->take(bytes);
    return block;
  }
  void put(const Block& block) noexcept override {
    uses_->give_back(numbers_.extract(block.data).mapped());
    memory().common_->put(block);
  }

 private:
  std::shared_ptr<ops::MemoryUses> uses_;
  std::map<std::byte*, std::size_t> numbers_;  ///< of uses_
};

/// One piece of memory in which the watched blocks have their places, and blocks of its own for
/// work that goes another way. All are in use as long as the recording can be replayed, whoever
/// holds a tensor; then they serve everybody.
class DeviceMemory::RecordingPool final : public Pool {
 public:
  RecordingPool(DeviceMemory& memory, ops::MemoryLayout layout)
      : Pool(memory), places_(std::move(layout)) {}
  ~RecordingPool() override {
    const std::scoped_lock lock(memory().mutex_);
    if (piece_ != nullptr) spare_.put({piece_, rounded(places_.bytes())});
    memory().stats_.allocated_bytes -= spare_.bytes();
    memory().common_->free_blocks().merge(spare_);
  }

  Block take(std::size_t bytes) override {
    if (const auto offset = places_.take(bytes)) {
      if (piece_ == nullptr) piece_ = take_more(rounded(places_.bytes()));
      return {piece_ + *offset, bytes};
    }
    const std::size_t wanted = rounded(bytes);
    const Block block = spare_.take(wanted);
    return block.data != nullptr ? block : Block{take_more(wanted), wanted};
  }
  void put(const Block& block) noexcept override {
    const std::ptrdiff_t offset = block.data - piece_;
    const bool inside =
        piece_ != nullptr && offset >= 0 && static_cast<std::size_t>(offset) < places_.bytes();
    if (inside) return places_.give_back(static_cast<std::size_t>(offset));
    spare_.put(block);
  }

 private:
  std::byte* take_more(std::size_t bytes) {
    std::byte* data = memory().malloc_locked(bytes);
    memory().add_live(bytes);
    return data;
  }

  ops::LaidOutMemory places_;
  std::byte* piece_ = nullptr;
  FreeBlocks spare_;
};

DeviceMemory::DeviceMemory(std::optional<std::size_t> limit_bytes)
    : limit_bytes_(limit_bytes), common_(std::make_shared<CommonPool>(*this)), current_(common_) {}

DeviceMemory::~DeviceMemory() {
  const cudaError_t status = common_->free_blocks().release();
  if (status != cudaSuccess) spdlog::warn("cuda: freeing memory: {}", cudaGetErrorString(status));
}

std::shared_ptr<DeviceMemory::Pool> DeviceMemory::watch(std::shared_ptr<ops::MemoryUses> uses) {
  return std::make_shared<WatchedPool>(*this, std::move(uses));
}

std::shared_ptr<DeviceMemory::Pool> DeviceMemory::make_pool(const ops::MemoryUses& uses) {
  const std::scoped_lock lock(mutex_);
  return std::make_shared<RecordingPool>(*this, ops::lay_out(uses.finished()));
}

std::shared_ptr<DeviceMemory::Pool> DeviceMemory::use(std::shared_ptr<Pool> pool) {
  const std::scoped_lock lock(mutex_);
  return std::exchange(current_, pool ? std::move(pool) : common_);
}

void DeviceMemory::trim_locked() {
  FreeBlocks& cached = common_->free_blocks();
  stats_.reserved_bytes -= cached.bytes();
  cached.release();
}

std::byte* DeviceMemory::malloc_locked(std::size_t bytes) {
  void* data = nullptr;
  take_locked(bytes, [&] { return cudaMalloc(&data, bytes) == cudaSuccess; });
  return static_cast<std::byte*>(data);
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
  std::unique_lock lock(mutex_);
  const std::shared_ptr<Pool> pool = current_;
  const Block block = pool->take(multiple_of(kTensorAlignment, bytes));
  lock.unlock();
  std::shared_ptr<void> owner(block.data, [this, pool, block](void*) {
    const std::scoped_lock give_back(mutex_);
    pool->put(block);
  });
  return std::make_shared<Storage>(block.data, bytes, device, owner);
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
