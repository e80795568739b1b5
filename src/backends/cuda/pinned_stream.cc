#include "backends/cuda/pinned_stream.h"

#include <algorithm>
#include <utility>

#include "backends/cuda/cuda_check.h"

namespace dither::cuda {
namespace {

/// Addresses of a place: more than any device has memory.
constexpr std::size_t kPlaceBytes = std::size_t{256} << 30U;

}  // namespace

PinnedStream::PinnedStream(ops::Backend& device, DeviceMemory& memory, cudaStream_t stream,
                           CollectLayers collect)
    : device_(device), stream_(stream), collect_(std::move(collect)), copies_(stream) {
  for (Place& place : places_) place.range = std::make_shared<VirtualRange>(memory, kPlaceBytes);
}

PinnedStream::~PinnedStream() {
  // Before the memory goes: copies and kernels may be under way.
  cudaStreamSynchronize(copies_.get());
  cudaStreamSynchronize(stream_);
}

void PinnedStream::add(const std::function<void()>& prepare) {
  Place& place = places_.at(parts_.size() % places_.size());
  parts_.emplace_back(collect_(prepare), place.range, 0, device_, stream_);
  place.bytes = std::max(place.bytes, parts_.back().bytes());
}

void PinnedStream::begin() {
  for (Place& place : places_) place.range->map(place.bytes);
  copies_.hold();
  used_ = 0;
  sent_ = std::min(parts_.size(), places_.size());
  for (std::size_t i = 0; i < sent_; ++i) parts_[i].send(copies_.get());
}

/// The place of the part in use becomes the next copy's.
void PinnedStream::release_current() {
  if (used_ == 0 || sent_ == parts_.size()) return;
  copies_.hold();
  parts_[sent_++].send(copies_.get());
}

void PinnedStream::next() {
  release_current();
  parts_.at(used_).wait_on(stream_);
  ++used_;
}

}  // namespace dither::cuda
