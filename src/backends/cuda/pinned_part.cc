#include "backends/cuda/pinned_part.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/device_memory.h"
#include "backends/cuda/linear.h"

namespace dither::cuda {
namespace {

PinnedMemory allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, std::max<std::size_t>(bytes, 1)),
        "allocate " + std::to_string(bytes >> 20U) + " MiB of pinned host memory for weights");
  return PinnedMemory(memory);
}

}  // namespace

std::size_t pinned_bytes(std::span<ops::PreparedLinear* const> layers) {
  std::size_t bytes = 0;
  for (ops::PreparedLinear* layer : layers) {
    visit_weights(*layer, [&](Tensor& tensor) { bytes += aligned_bytes(tensor.bytes()); });
  }
  return bytes;
}

PinnedPart::PinnedPart(std::span<ops::PreparedLinear* const> layers,
                       const std::shared_ptr<VirtualRange>& range, std::size_t offset,
                       ops::Backend& device, cudaStream_t stream)
    : bytes_(pinned_bytes(layers)),
      host_(allocate_pinned(bytes_)),
      device_(range->data() + offset),
      arrived_(make_event()) {
  const auto storage = std::make_shared<Storage>(range->data(), range->bytes(), &device, range);
  std::size_t done = 0;
  for (ops::PreparedLinear* layer : layers) {
    visit_weights(*layer, [&](Tensor& tensor) {
      auto* const host = static_cast<std::byte*>(host_.get()) + done;
      check(cudaMemcpyAsync(host, tensor.raw(), tensor.bytes(), cudaMemcpyDeviceToHost, stream),
            "bring weights to host memory");
      tensor = Tensor::view(storage, static_cast<std::int64_t>(offset + done), tensor.shape(),
                            tensor.dtype());
      done += aligned_bytes(tensor.bytes());
    });
  }
  check(cudaStreamSynchronize(stream), "bring weights to host memory");
}

void PinnedPart::send(cudaStream_t copies) {
  check(cudaMemcpyAsync(device_, host_.get(), bytes_, cudaMemcpyHostToDevice, copies),
        "bring weights to the device");
  check(cudaEventRecord(arrived_.get(), copies), "record an event");
}

void PinnedPart::wait_on(cudaStream_t stream) const {
  check(cudaStreamWaitEvent(stream, arrived_.get()), "wait for weights");
}

void CopyStream::hold() {
  check(cudaEventRecord(free_.get(), work_), "record an event");
  check(cudaStreamWaitEvent(copies_.get(), free_.get()), "order two streams");
}

}  // namespace dither::cuda
