#include "models/text/relative_position_bias.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "ops/ops.h"

namespace dither::models {

RelativePositionBias::RelativePositionBias(const Tensor& table, std::int64_t max_distance,
                                           ops::Backend& backend)
    : num_buckets_(table.dim(0)),
      heads_(table.dim(1)),
      max_distance_(max_distance),
      backend_(&backend) {
  const Tensor host = backend.download(ops::cast(table, DType::kF32));
  table_.assign(host.data<float>(), host.data<float>() + host.elements());
}

const Tensor& RelativePositionBias::operator()(std::int64_t length) const {
  if (bias_.defined() && bias_.dim(1) == length) return bias_;
  // Row i is a window of the values at distances -i .. length - 1 - i.
  std::vector<float> by_distance(static_cast<std::size_t>(2 * length - 1));
  Tensor bias = Tensor::host({heads_, length, length}, DType::kF32);
  auto* out = bias.data<float>();
  for (std::int64_t h = 0; h < heads_; ++h) {
    for (std::int64_t d = 1 - length; d < length; ++d) {
      const std::int64_t bucket = relative_position_bucket(d, num_buckets_, max_distance_);
      by_distance[static_cast<std::size_t>(d + length - 1)] =
          table_[static_cast<std::size_t>(bucket * heads_ + h)];
    }
    for (std::int64_t i = 0; i < length; ++i) {
      out = std::copy_n(by_distance.data() + (length - 1 - i), length, out);
    }
  }
  bias_ = backend_->upload(bias, DType::kF32);
  return bias_;
}

std::int64_t relative_position_bucket(std::int64_t distance, std::int64_t num_buckets,
                                      std::int64_t max_distance) {
  const std::int64_t side = num_buckets / 2;
  const std::int64_t first = distance > 0 ? side : 0;
  const std::int64_t n = std::abs(distance);
  const std::int64_t exact = side / 2;
  if (n < exact) return first + n;
  // In float32 as the reference: the distances where the quotient is an integer decide.
  const float position =
      std::log(static_cast<float>(n) / static_cast<float>(exact)) /
      static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact))) *
      static_cast<float>(side - exact);
  return first + std::min(side - 1, exact + static_cast<std::int64_t>(position));
}

}  // namespace dither::models
