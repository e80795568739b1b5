#pragma once

#include <cstddef>
#include <map>

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
  /// Of the addresses that were ever mapped since all were unmapped, whole pages.
  std::size_t mapped_bytes() const { return mapped_bytes_; }

  /// Puts memory behind the first `bytes`, in addition to what is there: one more piece. Throws
  /// kResourceExhausted as DeviceMemory does.
  void map(std::size_t bytes);
  /// Gives back the piece that map() put there when mapped_bytes() was `offset`. No work may be
  /// using it any more. Its addresses come back when all have been unmapped.
  void unmap(std::size_t offset) noexcept;
  /// Gives everything back.
  void unmap() noexcept;

 private:
  struct Driver;

  DeviceMemory& memory_;
  const Driver& driver_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t granularity_ = 0;
  std::size_t mapped_bytes_ = 0;
  std::map<std::size_t, std::size_t> pieces_;  ///< bytes of every mapping, by its offset
};

}  // namespace dither::cuda
