#include "models/text/relative_position_bias.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "ops/ops.h"

namespace dither::models {

RelativePositionBuckets::RelativePositionBuckets(std::int64_t num_buckets,
                                                 std::int64_t max_distance, ops::Backend& backend)
    : num_buckets_(num_buckets), max_distance_(max_distance), backend_(&backend) {}

const Tensor& RelativePositionBuckets::operator()(std::int64_t length) const {
  if (buckets_.defined() && buckets_.dim(0) == length) return buckets_;
  // Row i is a window of the buckets of distances -i .. length - 1 - i.
  std::vector<std::int32_t> by_distance;
  by_distance.reserve(static_cast<std::size_t>(2 * length - 1));
  for (std::int64_t d = 1 - length; d < length; ++d) {
    by_distance.push_back(
        static_cast<std::int32_t>(relative_position_bucket(d, num_buckets_, max_distance_)));
  }
  const Tensor buckets = Tensor::host({length, length}, DType::kI32);
  auto* out = buckets.data<std::int32_t>();
  for (std::int64_t i = 0; i < length; ++i) {
    out = std::copy_n(by_distance.data() + (length - 1 - i), length, out);
  }
  buckets_ = backend_->upload(buckets, DType::kI32);
  return buckets_;
}

Tensor relative_position_bias(const Tensor& table, const Tensor& buckets) {
  const Tensor by_pair = ops::embedding(ops::cast(table, DType::kF32), buckets);
  return ops::contiguous(by_pair.permute({2, 0, 1}));
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
