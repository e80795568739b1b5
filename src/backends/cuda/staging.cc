#include "backends/cuda/staging.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "backends/cuda/cuda_check.h"

namespace dither::cuda {
namespace {

/// Small enough for what is read to be in the cache still when it goes over the bus.
constexpr std::size_t kPartBytes = std::size_t{2} << 20U;
/// From 8 on, a PCIe 5 link (55 GB/s) is about as fast as they read pages in memory.
constexpr unsigned kMostWorkers = 8;

}  // namespace

Staging::Buffer& Staging::Lane::next() {
  Buffer& buffer = buffers[used++ % buffers.size()];
  if (buffer.memory == nullptr) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, kPartBytes), "allocate a pinned buffer");
    buffer.memory.reset(memory);
    buffer.sent = make_event();
  } else {
    check(cudaEventSynchronize(buffer.sent.get()), "wait for an upload");
  }
  return buffer;
}

void Staging::send(Lane& lane, const MappedFile* file, std::span<const std::byte> part,
                   std::byte* device, cudaStream_t stream) {
  Buffer& buffer = lane.next();
  auto* const pinned = static_cast<std::byte*>(buffer.memory.get());
  if (file != nullptr) {
    file->read(part, pinned);
  } else {
    std::memcpy(pinned, part.data(), part.size());
  }
  check(cudaMemcpyAsync(device, pinned, part.size(), cudaMemcpyHostToDevice, stream), "upload");
  check(cudaEventRecord(buffer.sent.get(), stream), "record an event");
}

void Staging::upload(const Tensor& host, std::byte* device, cudaStream_t stream) {
  const MappedFile* const file = host.storage()->file();
  const std::span<const std::byte> bytes(host.raw(), host.bytes());
  const std::size_t parts = (bytes.size() + kPartBytes - 1) / kPartBytes;
  std::atomic<std::size_t> begun = 0;
  const auto send_parts = [&](int worker) {
    for (std::size_t i = begun++; i < parts; i = begun++) {
      const std::size_t at = i * kPartBytes;
      send(lanes_[static_cast<std::size_t>(worker)], file,
           bytes.subspan(at, std::min(kPartBytes, bytes.size() - at)), device + at, stream);
    }
  };
  if (parts <= 1) return send_parts(0);
  if (!workers_) {
    workers_.emplace(
        static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, kMostWorkers)));
    lanes_.resize(static_cast<std::size_t>(workers_->workers()));
  }
  workers_->run(send_parts);
}

}  // namespace dither::cuda
