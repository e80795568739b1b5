#include "backends/cuda/recording.h"

#include "backends/cuda/cuda_check.h"

namespace dither::cuda {
namespace {

/// Directs allocations to a pool for as long as it lives.
class UsePool {
 public:
  UsePool(DeviceMemory& memory, std::shared_ptr<DeviceMemory::Pool> pool)
      : memory_(memory), before_(memory.use(std::move(pool))) {}
  ~UsePool() { memory_.use(before_); }
  UsePool(const UsePool&) = delete;
  UsePool& operator=(const UsePool&) = delete;

 private:
  DeviceMemory& memory_;
  std::shared_ptr<DeviceMemory::Pool> before_;
};

}  // namespace

void GraphRecording::replay() {
  if (uses_ == nullptr) {
    const auto uses = std::make_shared<ops::MemoryUses>();
    const UsePool use(memory_, memory_.watch(uses));
    work_();
    uses_ = uses;
    return;
  }
  if (tracing_) return work_();
  if (graph_ == nullptr) capture();
  check(cudaGraphLaunch(graph_.get(), stream_), "launch a graph");
}

void GraphRecording::capture() {
  pool_ = memory_.make_pool(*uses_);
  Graph graph;
  {
    const UsePool use(memory_, pool_);
    // Relaxed: the pool's first blocks come from cudaMalloc, which orders nothing on this stream.
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "begin a capture");
    cudaGraph_t raw = nullptr;
    try {
      work_();
    } catch (...) {
      cudaStreamEndCapture(stream_, &raw);
      graph.reset(raw);
      throw;
    }
    check(cudaStreamEndCapture(stream_, &raw), "end a capture");
    graph.reset(raw);
  }
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, graph.get(), 0), "instantiate a graph");
  graph_.reset(executable);
}

}  // namespace dither::cuda
