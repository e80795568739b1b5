#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "backends/cuda/handles.h"
#include "backends/cuda/virtual_range.h"
#include "ops/backend.h"

namespace dither::cuda {

/// Layers that wait in pinned host memory, as the bytes that the kernels read. Every tensor has its
/// address in a VirtualRange; parts that stream take turns in two of them. Copies run on a stream
/// of their own, which events tie to the work: in a captured graph they are nodes like the kernels.
class PinnedWeights final : public ops::OffloadedWeights {
 public:
  /// Runs `prepare` and returns the layers that were prepared meanwhile.
  using Collect =
      std::function<std::vector<ops::PreparedLinear*>(const std::function<void()>& prepare)>;

  /// `device` owns the tensors; it, `memory` and `stream` outlive this object.
  PinnedWeights(ops::Offload how, ops::Backend& device, DeviceMemory& memory, cudaStream_t stream,
                Collect collect);
  ~PinnedWeights() override;

  void add(const std::function<void()>& prepare) override;
  void begin() override;
  void next() override;
  void end() override;

 private:
  /// What is copied to the device together.
  struct Part {
    PinnedMemory host;
    std::size_t bytes = 0;
    std::byte* device = nullptr;
    Event arrived = nullptr;
  };

  bool streamed() const { return how_ == ops::Offload::kStreamed; }
  void send(Part& part);
  void hold_copies();
  void release_current();

  ops::Offload how_;
  ops::Backend& device_;
  DeviceMemory& memory_;
  cudaStream_t stream_;
  Collect collect_;
  Stream copies_;
  Event free_;  ///< the work that used a place, or came before the pass, is done
  std::vector<std::shared_ptr<VirtualRange>> places_;
  std::vector<std::size_t> place_bytes_;  ///< of every place, what its parts need
  std::vector<Part> parts_;
  std::size_t used_ = 0;  ///< parts that next() has given out in this pass
  std::size_t sent_ = 0;  ///< parts whose copy has been submitted
};

}  // namespace dither::cuda
