#include "backends/cuda/staging.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "backends/cuda/cuda_check.h"

namespace dither::cuda {
namespace {

/// Enough to fill a PCIe 5 link (55 GB/s) from pages in memory.
constexpr std::size_t kThreads = 4;
constexpr std::size_t kWorthThreads = std::size_t{4} << 20U;

void copy_bytes(std::span<const std::byte> from, std::byte* to) {
  if (from.size() < kWorthThreads) {
    std::memcpy(to, from.data(), from.size());
    return;
  }
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    const std::size_t begin = from.size() * i / kThreads;
    const std::size_t end = from.size() * (i + 1) / kThreads;
    threads.emplace_back([=] { std::memcpy(to + begin, from.data() + begin, end - begin); });
  }
}

}  // namespace

Staging::Buffer& Staging::next() {
  Buffer& buffer = buffers_[used_++ % buffers_.size()];
  if (buffer.memory == nullptr) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, kBufferBytes), "allocate a pinned buffer");
    buffer.memory.reset(memory);
    buffer.sent = make_event();
  } else {
    check(cudaEventSynchronize(buffer.sent.get()), "wait for an upload");
  }
  return buffer;
}

void Staging::upload(std::span<const std::byte> host, std::byte* device, cudaStream_t stream) {
  while (!host.empty()) {
    const auto part = host.first(std::min(host.size(), kBufferBytes));
    Buffer& buffer = next();
    copy_bytes(part, static_cast<std::byte*>(buffer.memory.get()));
    check(cudaMemcpyAsync(device, buffer.memory.get(), part.size(), cudaMemcpyHostToDevice, stream),
          "upload");
    check(cudaEventRecord(buffer.sent.get(), stream), "record an event");
    host = host.subspan(part.size());
    device += part.size();
  }
}

}  // namespace dither::cuda
