#include "backends/cuda/weight_memory.h"

#include <cuda_runtime_api.h>

namespace dither::cuda {
namespace {

/// Addresses: more than any device has memory, for models that come and go beside others.
constexpr std::size_t kRangeBytes = std::size_t{1} << 40U;

}  // namespace

WeightMemory::Place WeightMemory::take(std::size_t bytes) {
  const std::size_t begin = end_;
  const std::size_t end = begin + aligned_bytes(bytes);
  if (const std::size_t mapped = range_->mapped_bytes(); end > mapped) {
    range_->map(end);
    pieces_[mapped].end = range_->mapped_bytes();
  }
  end_ = end;
  for (auto& [offset, piece] : pieces_) {
    if (begin < piece.end && offset < end) ++piece.tensors;
  }
  return {begin, end};
}

void WeightMemory::give_back(const Place& place) noexcept {
  for (auto it = pieces_.begin(); it != pieces_.end();) {
    auto& [offset, piece] = *it;
    const bool reaches = place.begin < piece.end && offset < place.end;
    if (!reaches || --piece.tensors > 0) {
      ++it;
      continue;
    }
    cudaDeviceSynchronize();  // work that reads the tensor may be under way
    if (piece.end == range_->mapped_bytes()) end_ = piece.end;
    range_->unmap(offset);
    it = pieces_.erase(it);
  }
  if (pieces_.empty()) end_ = 0;
}

std::shared_ptr<Storage> WeightMemory::allocate(std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  if (!range_) range_.emplace(memory_, kRangeBytes);
  if (end_ + aligned_bytes(bytes) > range_->bytes()) return memory_.allocate(bytes, &device_);
  const Place place = take(bytes);
  std::byte* const data = range_->data() + place.begin;
  std::shared_ptr<void> owner(data, [this, place](void*) {
    const std::scoped_lock give(mutex_);
    give_back(place);
  });
  return std::make_shared<Storage>(data, bytes, &device_, owner);
}

}  // namespace dither::cuda
