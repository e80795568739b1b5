#include <gmock/gmock.h>

#include <cmath>

#include "models/flux/timestep_embedding.h"

namespace dither::models {
namespace {

// The chain t -> bf16 -> / 1000 -> bf16 -> * 1000 -> bf16 as torch rounds it.
TEST(EmbeddedTimestep, RoundsThroughBFloat16LikeTheReference) {
  EXPECT_EQ(embedded_timestep(1000.0F, DType::kBF16), 1000.0F);
  EXPECT_EQ(embedded_timestep(969.1F, DType::kBF16), 968.0F);
  EXPECT_EQ(embedded_timestep(753.3F, DType::kBF16), 752.0F);
  EXPECT_EQ(embedded_timestep(101.6F, DType::kBF16), 101.5F);
  EXPECT_NEAR(embedded_timestep(753.3F, DType::kF32), 753.3F, 1e-4F);
}

TEST(EmbeddedGuidance, RoundsThroughBFloat16LikeTheReference) {
  EXPECT_EQ(embedded_guidance(3.5F, DType::kBF16), 3504.0F);
  EXPECT_EQ(embedded_guidance(4.0F, DType::kBF16), 4000.0F);
  EXPECT_EQ(embedded_guidance(3.5F, DType::kF32), 3500.0F);
}

TEST(SinusoidalEmbedding, CosinesFirst) {
  const std::array<float, 2> values = {0.0F, 2.0F};
  const Tensor embedding = sinusoidal_embedding(values);
  ASSERT_EQ(embedding.shape(), Shape({2, 256}));
  const auto* zero = embedding.data<float>();
  EXPECT_EQ(zero[0], 1.0F);
  EXPECT_EQ(zero[128], 0.0F);
  const auto* two = zero + 256;
  EXPECT_FLOAT_EQ(two[0], std::cos(2.0F));
  EXPECT_FLOAT_EQ(two[128], std::sin(2.0F));
  EXPECT_FLOAT_EQ(two[64], std::cos(0.02F));  // 10000^(-64 / 128) = 0.01
  EXPECT_FLOAT_EQ(two[192], std::sin(0.02F));
}

}  // namespace
}  // namespace dither::models
