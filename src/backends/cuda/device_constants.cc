#include "backends/cuda/device_constants.h"

#include <algorithm>

namespace dither::cuda {
namespace {

/// The fewest ones that are made at once: the tokens of a large picture.
constexpr std::int64_t kLeastOnes = 8192;

Tensor repeated(float value, std::int64_t count, ops::Backend& backend) {
  const Tensor host = Tensor::host({count}, DType::kF32);
  std::fill_n(host.data<float>(), count, value);
  return backend.upload(host, DType::kF32);
}

}  // namespace

const float* DeviceConstants::scalar(float value) {
  Tensor& scalar = scalars_[value];
  if (!scalar.defined()) scalar = repeated(value, 1, backend_);
  return scalar.data<float>();
}

const float* DeviceConstants::ones(std::int64_t count) {
  if (ones_.empty() || ones_.back().dim(0) < count) {
    ones_.push_back(repeated(1, std::max(count, kLeastOnes), backend_));
  }
  return ones_.back().data<float>();
}

}  // namespace dither::cuda
