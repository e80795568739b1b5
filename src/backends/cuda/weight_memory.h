#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "backends/cuda/device_memory.h"
#include "backends/cuda/virtual_range.h"
#include "tensor/device.h"

namespace dither::cuda {

/// Device memory for tensors that stay. They lie one behind the other, so that of the driver's
/// pages of 2 MiB only the last is not full: a weight of 63 MiB takes 63 MiB, where a block of
/// DeviceMemory takes 64. A page goes back to the driver with the last tensor that reaches into it.
/// Thread-safe, because a tensor may die on another thread. Outlives its tensors.
class WeightMemory final : public Device {
 public:
  /// `memory` counts what is taken. Tensors are on `device`.
  WeightMemory(DeviceMemory& memory, Device& device) : memory_(memory), device_(device) {}

  std::string_view name() const override { return device_.name(); }
  /// Uninitialised, 512-byte aligned. Throws as DeviceMemory::allocate().
  std::shared_ptr<Storage> allocate(std::size_t bytes) override;

 private:
  struct Place {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  /// What VirtualRange mapped at once.
  struct Piece {
    std::size_t end = 0;
    int tensors = 0;  ///< that reach into it
  };

  Place take(std::size_t bytes);
  void give_back(const Place& place) noexcept;

  DeviceMemory& memory_;
  Device& device_;
  std::mutex mutex_;
  std::optional<VirtualRange> range_;    ///< once there is a tensor
  std::map<std::size_t, Piece> pieces_;  ///< by their offset
  std::size_t end_ = 0;                  ///< where the next tensor begins
};

}  // namespace dither::cuda
