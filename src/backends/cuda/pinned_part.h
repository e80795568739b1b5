#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backends/cuda/handles.h"
#include "backends/cuda/virtual_range.h"
#include "ops/backend.h"

namespace dither::cuda {

/// Runs `prepare` and returns the linear layers that were prepared meanwhile.
using CollectLayers =
    std::function<std::vector<ops::PreparedLinear*>(const std::function<void()>& prepare)>;

/// What the weights of these layers take together, each aligned as DeviceMemory aligns: kernels are
/// chosen by alignment, and must be the ones that resident weights get.
std::size_t pinned_bytes(std::span<ops::PreparedLinear* const> layers);

/// The weights of some layers in pinned host memory, as the bytes that kernels read, and their
/// place on the device.
class PinnedPart {
 public:
  /// Brings them to host memory, and gives every tensor its address from `offset` of `range` on.
  /// `device` owns the tensors, whose work `stream` is.
  PinnedPart(std::span<ops::PreparedLinear* const> layers,
             const std::shared_ptr<VirtualRange>& range, std::size_t offset, ops::Backend& device,
             cudaStream_t stream);

  std::size_t bytes() const { return bytes_; }
  /// Copies them to their place.
  void send(cudaStream_t copies);
  /// What `stream` does from here on finds them there.
  void wait_on(cudaStream_t stream) const;

 private:
  std::size_t bytes_;
  PinnedMemory host_;
  std::byte* device_;
  Event arrived_;
};

/// A stream for copies to the device that run beside the work of another one, which outlives it.
class CopyStream {
 public:
  explicit CopyStream(cudaStream_t work)
      : work_(work), copies_(make_stream()), free_(make_event()) {}

  cudaStream_t get() const { return copies_.get(); }
  /// Later copies wait for the work that has been submitted, which may use their places.
  void hold();

 private:
  cudaStream_t work_;
  Stream copies_;
  Event free_;
};

}  // namespace dither::cuda
