#pragma once

#include <cstdint>
#include <vector>

#include "ops/backend.h"
#include "tensor/tensor.h"

namespace dither::models {

/// T5's learned bias on attention scores by the distance of key and query (Raffel et al. 2020,
/// section 2.1): one number per bucket of distances and head.
class RelativePositionBias {
 public:
  /// `table` [num_buckets, H] on `backend`.
  RelativePositionBias(const Tensor& table, std::int64_t max_distance, ops::Backend& backend);

  /// bias[h, i, j] = table[bucket(j - i), h].  -> [H, length, length] f32, ready as
  /// AttentionOptions::bias. The last length asked for is remembered: prompts share theirs.
  const Tensor& operator()(std::int64_t length) const;

 private:
  std::int64_t num_buckets_;
  std::int64_t heads_;
  std::int64_t max_distance_;
  std::vector<float> table_;  ///< [num_buckets, H]
  ops::Backend* backend_;
  mutable Tensor bias_;
};

/// Bucket of a distance in a bidirectional encoder: half of the buckets for keys after the query;
/// of each half, one bucket per distance below its middle, logarithmic ones up to max_distance, the
/// last for all beyond.
std::int64_t relative_position_bucket(std::int64_t distance, std::int64_t num_buckets,
                                      std::int64_t max_distance);

}  // namespace dither::models
