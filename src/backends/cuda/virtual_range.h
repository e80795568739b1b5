#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backends/cuda/device_memory.h"

namespace dither::cuda {

/// A range of device addresses that are reserved once and have memory behind them only while it is
/// wanted (CUDA's virtual memory management: cuMemAddressReserve, cuMemMap).
class VirtualRange {
 public:
  /// Reserves `bytes` of addresses, which cost nothing. `memory` counts what is mapped and outlives
  /// the range. Throws kDevice.
  VirtualRange(DeviceMemory& memory, std::size_t bytes);
  ~VirtualRange();
  VirtualRange(const VirtualRange&) = delete;
  VirtualRange& operator=(const VirtualRange&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }  ///< of addresses

  /// Puts memory behind the first `bytes`, in addition to what is there. Throws kResourceExhausted
  /// as DeviceMemory does.
  void map(std::size_t bytes);
  /// Gives it back. No work may be using it any more.
  void unmap() noexcept;

 private:
  struct Driver;

  DeviceMemory& memory_;
  const Driver& driver_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t granularity_ = 0;
  std::size_t mapped_bytes_ = 0;
  std::vector<std::size_t> pieces_;  ///< bytes of every mapping, from the start on
};

}  // namespace dither::cuda
