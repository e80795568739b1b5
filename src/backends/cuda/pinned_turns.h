#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "backends/cuda/pinned_part.h"
#include "backends/cuda/virtual_range.h"
#include "ops/backend.h"
#include "ops/turn_layout.h"

namespace dither::cuda {

/// Models that wait in pinned host memory and take turns in one VirtualRange, where ops::TurnLayout
/// says which part lies where. Memory is behind the range from come() to leave().
class PinnedTurns final : public ops::WeightTurns {
 public:
  /// `device` owns the tensors; it, `memory` and `stream` outlive this object.
  PinnedTurns(ops::Backend& device, DeviceMemory& memory, cudaStream_t stream,
              CollectLayers collect);
  ~PinnedTurns() override;

  std::size_t add(int turn, const std::function<void()>& prepare) override;
  void come(int turn) override;
  void expect_last_uses(int uses) override { layout_.expect_last_uses(uses); }
  void used(std::size_t part) override;
  void leave() override;

 private:
  /// When the work submitted so far is done.
  void send(const std::vector<std::size_t>& parts);

  ops::Backend& device_;
  DeviceMemory& memory_;
  cudaStream_t stream_;
  CollectLayers collect_;
  CopyStream copies_;
  std::shared_ptr<VirtualRange> range_;
  ops::TurnLayout layout_;
  std::vector<PinnedPart> parts_;
  int depth_ = 0;  ///< of calls of add()
};

}  // namespace dither::cuda
