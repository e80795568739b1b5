#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <span>

#include "backends/cuda/handles.h"

namespace dither::cuda {

/// A ring of pinned host buffers on the way from mapped files to the device: while one is being
/// copied over the bus, the next is filled, by several threads since one core reads memory slower
/// than the bus takes it.
class Staging {
 public:
  /// Copies host bytes to the device in the order of `stream`. The host bytes may change
  /// afterwards.
  void upload(std::span<const std::byte> host, std::byte* device, cudaStream_t stream);

 private:
  static constexpr std::size_t kBufferBytes = std::size_t{32} << 20U;

  struct Buffer {
    PinnedMemory memory;
    Event sent;
  };
  Buffer& next();

  std::array<Buffer, 4> buffers_;
  std::size_t used_ = 0;
};

}  // namespace dither::cuda
