#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "ops/backend.h"

namespace dither::cuda {

/// Numbers in device memory for libraries that read their scales there. Each is uploaded at its
/// first use and stays as long as this object: captured graphs hold its address.
class DeviceConstants {
 public:
  /// `backend` allocates and outlives this object.
  explicit DeviceConstants(ops::Backend& backend) : backend_(backend) {}

  /// One number, at an address of its own: neighbours in an array are not aligned enough.
  const float* scalar(float value);
  /// `count` ones.
  const float* ones(std::int64_t count);

 private:
  ops::Backend& backend_;
  std::map<float, Tensor> scalars_;
  std::vector<Tensor> ones_;  ///< each longer than the one before
};

}  // namespace dither::cuda
