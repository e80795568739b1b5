#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

namespace dither {

class Storage;

/// Where a tensor's bytes live and who computes on them. An ops::Backend, or memory of one; this
/// base exists so that the tensor room need not know them. A device outlives every tensor made from
/// it.
class Device {
 public:
  virtual ~Device() = default;

  /// "cpu", "cuda", ...: for messages and reports.
  virtual std::string_view name() const = 0;

  /// Uninitialised memory, at least 64-byte aligned. Throws kResourceExhausted with the size.
  virtual std::shared_ptr<Storage> allocate(std::size_t bytes) = 0;
};

}  // namespace dither
