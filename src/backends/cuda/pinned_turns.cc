#include "backends/cuda/pinned_turns.h"

#include <utility>

#include "backends/cuda/cuda_check.h"

namespace dither::cuda {
namespace {

/// Addresses: more than any device has memory.
constexpr std::size_t kRangeBytes = std::size_t{256} << 30U;

}  // namespace

PinnedTurns::PinnedTurns(ops::Backend& device, DeviceMemory& memory, cudaStream_t stream,
                         CollectLayers collect)
    : device_(device),
      memory_(memory),
      stream_(stream),
      collect_(std::move(collect)),
      copies_(stream),
      range_(std::make_shared<VirtualRange>(memory, kRangeBytes)) {}

PinnedTurns::~PinnedTurns() {
  // Before the memory goes: copies and kernels may be under way.
  cudaStreamSynchronize(copies_.get());
  cudaStreamSynchronize(stream_);
}

std::size_t PinnedTurns::add(int turn, const std::function<void()>& prepare) {
  ++depth_;  // not taken back when preparing fails: nobody uses this object then
  const std::vector<ops::PreparedLinear*> layers = collect_(prepare);
  --depth_;
  const std::size_t part = layout_.add(turn, pinned_bytes(layers));
  parts_.emplace_back(layers, range_, layout_.offset(part), device_, stream_);
  if (depth_ == 0) memory_.trim();  // a model's blocks are large, and few others will fill them
  return part;
}

void PinnedTurns::send(const std::vector<std::size_t>& parts) {
  if (parts.empty()) return;
  copies_.hold();
  for (const std::size_t part : parts) parts_[part].send(copies_.get());
}

void PinnedTurns::come(int turn) {
  range_->map(layout_.bytes());
  send(layout_.come(turn));
  for (const std::size_t part : layout_.parts_of(turn)) parts_[part].wait_on(stream_);
}

void PinnedTurns::used(std::size_t part) { send(layout_.used(part)); }

void PinnedTurns::leave() {
  layout_.leave();
  check(cudaStreamSynchronize(copies_.get()), "wait for copies");
  check(cudaStreamSynchronize(stream_), "wait for the device");
  range_->unmap();
}

}  // namespace dither::cuda
