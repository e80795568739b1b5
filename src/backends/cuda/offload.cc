#include "backends/cuda/offload.h"

#include <algorithm>
#include <utility>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/linear.h"

namespace dither::cuda {
namespace {

/// As DeviceMemory aligns: kernels are chosen by alignment, and must be the ones that resident
/// weights get.
constexpr std::size_t kAlignment = 512;
/// Addresses of a place: more than any device has memory.
constexpr std::size_t kPlaceBytes = std::size_t{256} << 30U;
constexpr std::size_t kStreamedPlaces = 2;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

PinnedMemory allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, std::max<std::size_t>(bytes, 1)),
        "allocate " + std::to_string(bytes >> 20U) + " MiB of pinned host memory for weights");
  return PinnedMemory(memory);
}

}  // namespace

PinnedWeights::PinnedWeights(ops::Offload how, ops::Backend& device, DeviceMemory& memory,
                             cudaStream_t stream, Collect collect)
    : how_(how),
      device_(device),
      memory_(memory),
      stream_(stream),
      collect_(std::move(collect)),
      copies_(make_stream()),
      free_(make_event()) {
  const std::size_t places = streamed() ? kStreamedPlaces : 1;
  for (std::size_t i = 0; i < places; ++i) {
    places_.push_back(std::make_shared<VirtualRange>(memory, kPlaceBytes));
  }
  place_bytes_.resize(places);
}

PinnedWeights::~PinnedWeights() {
  // Before the memory goes: copies and kernels may be under way.
  cudaStreamSynchronize(copies_.get());
  cudaStreamSynchronize(stream_);
}

void PinnedWeights::add(const std::function<void()>& prepare) {
  const std::vector<ops::PreparedLinear*> layers = collect_(prepare);
  const std::size_t place = parts_.size() % places_.size();
  const auto& range = places_[place];
  const auto storage = std::make_shared<Storage>(range->data(), range->bytes(), &device_, range);
  const std::size_t begin = streamed() ? 0 : place_bytes_[place];

  Part part;
  part.device = range->data() + begin;
  for (ops::PreparedLinear* layer : layers) {
    visit_weights(*layer, [&](Tensor& tensor) { part.bytes += aligned(tensor.bytes()); });
  }
  part.host = allocate_pinned(part.bytes);
  part.arrived = make_event();
  std::size_t offset = 0;
  for (ops::PreparedLinear* layer : layers) {
    visit_weights(*layer, [&](Tensor& tensor) {
      auto* const host = static_cast<std::byte*>(part.host.get()) + offset;
      check(cudaMemcpyAsync(host, tensor.raw(), tensor.bytes(), cudaMemcpyDeviceToHost, stream_),
            "bring weights to host memory");
      tensor = Tensor::view(storage, static_cast<std::int64_t>(begin + offset), tensor.shape(),
                            tensor.dtype());
      offset += aligned(tensor.bytes());
    });
  }
  check(cudaStreamSynchronize(stream_), "bring weights to host memory");
  place_bytes_[place] = std::max(place_bytes_[place], begin + part.bytes);
  parts_.push_back(std::move(part));
  if (!streamed()) memory_.trim();  // a part is large, and no other will fill its blocks
}

void PinnedWeights::send(Part& part) {
  check(cudaMemcpyAsync(part.device, part.host.get(), part.bytes, cudaMemcpyHostToDevice,
                        copies_.get()),
        "bring weights to the device");
  check(cudaEventRecord(part.arrived.get(), copies_.get()), "record an event");
}

/// Later copies wait for the work that has been submitted, which may use their places.
void PinnedWeights::hold_copies() {
  check(cudaEventRecord(free_.get(), stream_), "record an event");
  check(cudaStreamWaitEvent(copies_.get(), free_.get()), "order two streams");
}

void PinnedWeights::begin() {
  for (std::size_t i = 0; i < places_.size(); ++i) places_[i]->map(place_bytes_[i]);
  hold_copies();
  used_ = 0;
  sent_ = streamed() ? std::min(parts_.size(), places_.size()) : parts_.size();
  for (std::size_t i = 0; i < sent_; ++i) send(parts_[i]);
}

/// The place of the part in use becomes the next copy's.
void PinnedWeights::release_current() {
  if (used_ == 0 || sent_ == parts_.size()) return;
  hold_copies();
  send(parts_[sent_++]);
}

void PinnedWeights::next() {
  release_current();
  check(cudaStreamWaitEvent(stream_, parts_.at(used_).arrived.get()), "wait for weights");
  ++used_;
}

void PinnedWeights::end() {
  if (streamed()) return;  // every copy has been waited for: nothing is open
  check(cudaStreamSynchronize(stream_), "wait for the device");
  for (const auto& place : places_) place->unmap();
}

}  // namespace dither::cuda
