#pragma once

#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "backends/cuda/handles.h"

// cudnn-frontend's headers cost seconds per file that includes them: only our .cc files do.
namespace cudnn_frontend::graph {
class Graph;
}

namespace dither::cuda {

/// Throws kDevice (kResourceExhausted when memory is what is missing) with cuDNN's name of the
/// failure, its own last message and what was being done.
void check(cudnnStatus_t status, std::string_view doing);

/// Scratch memory of at least `bytes`, 256-byte aligned, that stays valid until the next call on
/// the stream.
using CudnnScratch = std::function<void*(std::size_t bytes)>;

/// A cuDNN handle on the current device whose work goes to one stream. The stream outlives it. Not
/// thread-safe.
class CudnnHandle {
 public:
  /// Throws kDevice: no usable device, or a cuDNN library that does not fit it.
  explicit CudnnHandle(cudaStream_t stream);

  cudnnHandle_t get() const { return handle_.get(); }

 private:
  Unique<cudnnHandle_t, cudnnDestroy> handle_;
};

/// What an engine has to promise to be chosen for a graph.
enum class CudnnEngines : std::uint8_t {
  kAny,
  kDeterministic,  ///< the same bits every time, partial sums in the compute type
  kExactF32,       ///< also no tensor cores and no TF32: products and sums in float32
};

/// Where a tensor of a graph lies for one run, named by the unique id that the graph gave it.
struct CudnnOperand {
  std::int64_t uid = 0;
  void* data = nullptr;  ///< on the device, 16-byte aligned
};

/// A graph that cuDNN has lowered to kernels for this device. Copies share it.
class CudnnPlan {
 public:
  /// Lowers `graph` with the first engine that takes it: heuristic mode A, then cuDNN's fallback
  /// list; nothing is timed, so the choice depends on the graph, the device and the library alone.
  /// Where no engine takes it: nothing, and the reason is appended to `refusals`. Costs 0.04-1 s.
  /// Throws kDevice when the device or the handle fails.
  static std::optional<CudnnPlan> build(const CudnnHandle& handle,
                                        std::shared_ptr<cudnn_frontend::graph::Graph> graph,
                                        CudnnEngines engines, std::string& refusals);

  /// Enqueues the kernels on the handle's stream. `operands` names every tensor of the graph. Takes
  /// scratch memory once and allocates nothing on the device; from the second run on, when the
  /// kernels are loaded, it may be captured. Throws kDevice.
  void run(const CudnnHandle& handle, std::span<const CudnnOperand> operands,
           const CudnnScratch& scratch) const;

 private:
  CudnnPlan(std::shared_ptr<cudnn_frontend::graph::Graph> graph, std::size_t workspace_bytes);

  std::shared_ptr<cudnn_frontend::graph::Graph> graph_;
  std::size_t workspace_bytes_;
};

}  // namespace dither::cuda
