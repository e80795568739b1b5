#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "backends/cuda/pinned_part.h"
#include "backends/cuda/virtual_range.h"
#include "ops/backend.h"

namespace dither::cuda {

/// Layers that stream from pinned host memory through two VirtualRanges, which they take in turn.
/// Copies run on a stream of their own, which events tie to the work: in a captured graph they are
/// nodes like the kernels.
class PinnedStream final : public ops::StreamedWeights {
 public:
  /// `device` owns the tensors; it, `memory` and `stream` outlive this object.
  PinnedStream(ops::Backend& device, DeviceMemory& memory, cudaStream_t stream,
               CollectLayers collect);
  ~PinnedStream() override;

  void add(const std::function<void()>& prepare) override;
  void begin() override;
  void next() override;

 private:
  struct Place {
    std::shared_ptr<VirtualRange> range;
    std::size_t bytes = 0;  ///< that its parts need
  };

  void release_current();

  ops::Backend& device_;
  cudaStream_t stream_;
  CollectLayers collect_;
  CopyStream copies_;
  std::array<Place, 2> places_;
  std::vector<PinnedPart> parts_;
  std::size_t used_ = 0;  ///< parts that next() has given out in this pass
  std::size_t sent_ = 0;  ///< parts whose copy has been submitted
};

}  // namespace dither::cuda
