#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>

#include "backends/cuda/device_memory.h"
#include "backends/cuda/handles.h"
#include "ops/backend.h"
#include "ops/memory_layout.h"

namespace dither::cuda {

/// Work that becomes a CUDA graph: the first replay calls it, so that libraries make their plans
/// and load their kernels, and to see what memory it takes; the second captures it, with memory of
/// its own; all later ones launch the graph, the same kernels with the same operands. During a
/// trace it calls the work, because a graph's kernels cannot be told apart by the region that they
/// were captured in.
class GraphRecording final : public ops::Recording {
 public:
  /// `memory`, `stream` and `tracing`, true during a trace, outlive the recording.
  GraphRecording(std::function<void()> work, DeviceMemory& memory, cudaStream_t stream,
                 const bool& tracing)
      : work_(std::move(work)), memory_(memory), stream_(stream), tracing_(tracing) {}

  void replay() override;

 private:
  void capture();

  std::function<void()> work_;
  DeviceMemory& memory_;
  cudaStream_t stream_;
  const bool& tracing_;
  std::shared_ptr<ops::MemoryUses> uses_;  ///< of memory, while the work was called
  std::shared_ptr<DeviceMemory::Pool> pool_;
  GraphExec graph_;
};

}  // namespace dither::cuda
