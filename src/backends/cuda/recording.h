#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>

#include "backends/cuda/device_memory.h"
#include "backends/cuda/handles.h"
#include "ops/backend.h"

namespace dither::cuda {

/// Work that becomes a CUDA graph: the first replay calls it, so that libraries make their plans
/// and load their kernels; the second captures it, with memory of its own; all later ones launch
/// the graph, the same kernels with the same operands.
class GraphRecording final : public ops::Recording {
 public:
  /// `memory` and `stream` outlive the recording.
  GraphRecording(std::function<void()> work, DeviceMemory& memory, cudaStream_t stream)
      : work_(std::move(work)), memory_(memory), stream_(stream) {}

  void replay() override;

 private:
  void capture();

  std::function<void()> work_;
  DeviceMemory& memory_;
  cudaStream_t stream_;
  bool called_ = false;
  std::shared_ptr<DeviceMemory::Pool> pool_;
  GraphExec graph_;
};

}  // namespace dither::cuda
