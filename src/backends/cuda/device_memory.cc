#include "backends/cuda/device_memory.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <tuple>
#include <utility>

#include "backends/cuda/cuda_check.h"
#include "ops/memory_layout.h"

namespace dither::cuda {
namespace {

constexpr std::size_t kGranule = 512;
constexpr std::size_t kLargeGranule = std::size_t{2} << 20U;  // the driver's own page

std::size_t multiple_of(std::size_t granule, std::size_t bytes) {
  return std::max(bytes + granule - 1, granule) / granule * granule;
}
std::size_t rounded(std::size_t bytes) {
  return multiple_of(bytes < kLargeGranule ? kGranule : kLargeGranule, bytes);
}

double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

/// Free blocks by size. Guarded by the DeviceMemory's mutex.
class DeviceMemory::Pool {
 public:
  enum class Kind : std::uint8_t { kCommon, kWatched, kRecording };

  explicit Pool(Kind kind, ops::MemoryLayout layout = {})
      : kind_(kind), laid_out_(std::move(layout)) {}

  bool watched() const { return kind_ == Kind::kWatched; }
  /// A recording's blocks are in use as long as it can be replayed, whoever holds a tensor.
  bool recording() const { return kind_ == Kind::kRecording; }

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

  // Of a watched pool.
  void note_use(void* block, std::size_t bytes) { numbers_[block] = uses_.take(bytes); }
  void note_end(void* block) {
    const auto number = numbers_.extract(block);
    uses_.give_back(number.mapped());
  }
  const ops::MemoryUses& uses() const { return uses_; }

  // Of a recording's: its one piece of memory, and who has which part of it.
  ops::LaidOutMemory& laid_out() { return laid_out_; }
  std::byte* piece() const { return piece_; }
  void set_piece(void* piece) { piece_ = static_cast<std::byte*>(piece); }
  std::optional<std::size_t> offset_in_piece(const void* block) const {
    if (piece_ == nullptr) return std::nullopt;
    const std::ptrdiff_t offset = static_cast<const std::byte*>(block) - piece_;
    if (offset < 0 || static_cast<std::size_t>(offset) >= laid_out_.bytes()) return std::nullopt;
    return static_cast<std::size_t>(offset);
  }

 private:
  Kind kind_;
  std::multimap<std::size_t, void*> free_;
  ops::MemoryUses uses_;
  std::map<void*, std::size_t> numbers_;  ///< of uses_
  ops::LaidOutMemory laid_out_;
  std::byte* piece_ = nullptr;
};

DeviceMemory::DeviceMemory(std::optional<std::size_t> limit_bytes)
    : limit_bytes_(limit_bytes),
      common_(std::make_shared<Pool>(Pool::Kind::kCommon)),
      current_(common_) {}

DeviceMemory::~DeviceMemory() {
  for (const auto& [bytes, block] : common_->free_blocks()) {
    if (const auto status = cudaFree(block); status != cudaSuccess) {
      spdlog::warn("cuda: freeing {} bytes: {}", bytes, cudaGetErrorString(status));
      return;  // the context is gone, and with it all memory
    }
  }
}

std::shared_ptr<DeviceMemory::Pool> DeviceMemory::watch() {
  return std::make_shared<Pool>(Pool::Kind::kWatched);
}

std::shared_ptr<DeviceMemory::Pool> DeviceMemory::make_pool(const Pool& watched) {
  const std::scoped_lock lock(mutex_);
  // The blocks of a recording that is no more serve everybody.
  return {new Pool(Pool::Kind::kRecording, ops::lay_out(watched.uses().finished())),
          [this](Pool* dying) {
            const std::scoped_lock dying_lock(mutex_);
            if (dying->piece() != nullptr) {
              dying->put(dying->piece(), rounded(dying->laid_out().bytes()));
            }
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
  void* block = take_laid_out(*pool, multiple_of(kGranule, bytes));
  std::size_t size = wanted;
  if (block == nullptr) {
    std::tie(block, size) = (pool->watched() ? *common_ : *pool).take(wanted);
    if (block == nullptr) {
      take_locked(wanted, [&] { return cudaMalloc(&block, wanted) == cudaSuccess; });
      size = wanted;
      add_live(size);
    } else if (!pool->recording()) {
      add_live(size);
    }
  }
  if (pool->watched()) pool->note_use(block, multiple_of(kGranule, bytes));
  lock.unlock();
  std::shared_ptr<void> owner(block,
                              [this, pool, held = size](void* p) { give_back(*pool, p, held); });
  return std::make_shared<Storage>(static_cast<std::byte*>(block), bytes, device, owner);
}

/// Null where the pool has no place for this.
void* DeviceMemory::take_laid_out(Pool& pool, std::size_t bytes) {
  if (pool.laid_out().bytes() == 0) return nullptr;
  const auto offset = pool.laid_out().take(bytes);
  if (!offset) return nullptr;
  if (pool.piece() == nullptr) {
    const std::size_t all = rounded(pool.laid_out().bytes());
    void* piece = nullptr;
    take_locked(all, [&] { return cudaMalloc(&piece, all) == cudaSuccess; });
    add_live(all);
    pool.set_piece(piece);
  }
  return pool.piece() + *offset;
}

void DeviceMemory::give_back(Pool& pool, void* block, std::size_t bytes) noexcept {
  const std::scoped_lock lock(mutex_);
  if (const auto offset = pool.offset_in_piece(block)) return pool.laid_out().give_back(*offset);
  if (!pool.recording()) stats_.allocated_bytes -= bytes;
  if (pool.watched()) pool.note_end(block);
  (pool.watched() ? *common_ : pool).put(block, bytes);
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
