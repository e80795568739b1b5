#pragma once

#include <cstdint>

#include "ops/backend.h"
#include "tensor/tensor.h"

namespace dither::models {

/// Which of T5's buckets of distances each pair of positions falls into. All blocks share them.
class RelativePositionBuckets {
 public:
  RelativePositionBuckets(std::int64_t num_buckets, std::int64_t max_distance,
                          ops::Backend& backend);

  /// bucket(j - i) of query i and key j.  -> [length, length] kI32 on the backend. The last length
  /// asked for is remembered: prompts share theirs.
  const Tensor& operator()(std::int64_t length) const;

 private:
  std::int64_t num_buckets_;
  std::int64_t max_distance_;
  ops::Backend* backend_;
  mutable Tensor buckets_;
};

/// T5's learned bias on attention scores by the distance of key and query (Raffel et al. 2020,
/// section 2.1): one number per bucket of distances and head.
///   bias[h, i, j] = table[buckets[i, j], h].
/// table [num_buckets, H] float32 or bfloat16, buckets [L, L] kI32, both on one backend
/// -> [H, L, L] f32, ready as AttentionOptions::bias. Its callers decide what to keep: 24 blocks
/// with tables of their own would take 1.6 GB at 512 tokens of 64 heads.
Tensor relative_position_bias(const Tensor& table, const Tensor& buckets);

/// Bucket of a distance in a bidirectional encoder: half of the buckets for keys after the query;
/// of each half, one bucket per distance below its middle, logarithmic ones up to max_distance, the
/// last for all beyond.
std::int64_t relative_position_bucket(std::int64_t distance, std::int64_t num_buckets,
                                      std::int64_t max_distance);

}  // namespace dither::models
