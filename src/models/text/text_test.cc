#include <gmock/gmock.h>

#include <algorithm>
#include <vector>

#include "models/text/clip_text.h"
#include "models/text/relative_position_bias.h"

namespace dither::models {
namespace {

struct PooledCase {
  std::vector<std::int32_t> ids;
  std::int32_t eos_token_id;
  std::int32_t row;
};

class ClipPooledRows : public testing::TestWithParam<PooledCase> {};

TEST_P(ClipPooledRows, FirstEndOfText) {
  const auto& ids = GetParam().ids;
  const auto length = static_cast<std::int64_t>(ids.size());
  const Tensor batch = Tensor::host({2, length}, DType::kI32);
  std::copy(ids.begin(), ids.end(), batch.data<std::int32_t>() + length);
  const Tensor rows = clip_pooled_rows(batch, GetParam().eos_token_id);
  EXPECT_EQ(rows.shape(), Shape({2, 1}));
  EXPECT_EQ(rows.data<std::int32_t>()[1], length + GetParam().row);
}

INSTANTIATE_TEST_SUITE_P(
    Table, ClipPooledRows,
    testing::Values(PooledCase{{90, 5, 91, 91}, 2, 2},     // legacy: first largest id
                    PooledCase{{90, 5, 2, 91}, 2, 3},      // legacy: id 2 means nothing
                    PooledCase{{90, 41, 95, 41}, 41, 1},   // larger ids do not matter
                    PooledCase{{90, 5, 95, 91}, 41, 0}));  // none: transformers takes row 0

struct BucketCase {
  std::int64_t distance;
  std::int64_t bucket;
};

class RelativePositionBucket : public testing::TestWithParam<BucketCase> {};

TEST_P(RelativePositionBucket, MatchesTransformers) {
  EXPECT_EQ(relative_position_bucket(GetParam().distance, 32, 128), GetParam().bucket);
}

// T5Attention._relative_position_bucket of transformers 5.23 with 32 buckets, 128 at most.
INSTANTIATE_TEST_SUITE_P(
    Table, RelativePositionBucket,
    testing::Values(BucketCase{0, 0}, BucketCase{-1, 1}, BucketCase{1, 17}, BucketCase{-7, 7},
                    BucketCase{7, 23}, BucketCase{8, 24}, BucketCase{11, 24}, BucketCase{12, 25},
                    BucketCase{-15, 9}, BucketCase{16, 26}, BucketCase{-22, 10}, BucketCase{23, 27},
                    BucketCase{31, 27}, BucketCase{32, 28}, BucketCase{-45, 12}, BucketCase{46, 29},
                    BucketCase{63, 29}, BucketCase{64, 30}, BucketCase{-90, 14}, BucketCase{91, 31},
                    BucketCase{127, 31}, BucketCase{128, 31}, BucketCase{-127, 15},
                    BucketCase{-128, 15}, BucketCase{-5000, 15}));

}  // namespace
}  // namespace dither::models
