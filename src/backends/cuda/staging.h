#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "backends/cuda/handles.h"
#include "base/worker_pool.h"
#include "tensor/tensor.h"

namespace dither::cuda {

/// Pinned host buffers on the way from files and host memory to the device. Several threads fill
/// them, since one core reads memory slower than the bus takes it; each has two, of which one is
/// being copied over the bus while it fills the other.
class Staging {
 public:
  /// Copies a contiguous host tensor to the device in the order of `stream`. The host bytes may
  /// change afterwards. Throws kIo when they are of a file that cannot be read.
  void upload(const Tensor& host, std::byte* device, cudaStream_t stream);

 private:
  struct Buffer {
    PinnedMemory memory;
    Event sent;
  };
  struct Lane {
    std::array<Buffer, 2> buffers;
    std::size_t used = 0;

    Buffer& next();
  };

  static void send(Lane& lane, const MappedFile* file, std::span<const std::byte> part,
                   std::byte* device, cudaStream_t stream);

  std::vector<Lane> lanes_ = std::vector<Lane>(1);  ///< one per worker
  std::optional<WorkerPool> workers_;               ///< once there is enough to do
};

}  // namespace dither::cuda
