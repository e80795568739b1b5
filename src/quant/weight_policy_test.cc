#include "quant/weight_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "base/error.h"
#include "base/test_util.h"
#include "quant/e4m3_weight.h"
#include "quant/fp8.h"
#include "quant/nvfp4.h"
#include "tensor/bfloat16.h"
#include "tensor/float8.h"

namespace dither::quant {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Tensor matrix(std::int64_t rows, std::int64_t cols, const std::vector<float>& values,
              DType dtype = DType::kF32) {
  Tensor tensor = Tensor::host({rows, cols}, dtype);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kBF16) {
      tensor.data<bf16>()[i] = to_bf16(values[i]);
    } else {
      tensor.data<float>()[i] = values[i];
    }
  }
  return tensor;
}

std::vector<float> normal(std::int64_t count, float deviation = 1) {
  std::mt19937 random(3);
  std::normal_distribution<float> distribution(0, deviation);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = distribution(random);
  return values;
}

/// |c - r| / |r|
double relative_error(const std::vector<float>& c, const std::vector<float>& r) {
  double difference = 0;
  double whole = 0;
  for (std::size_t i = 0; i < r.size(); ++i) {
    difference += (double{c[i]} - r[i]) * (double{c[i]} - r[i]);
    whole += double{r[i]} * r[i];
  }
  return std::sqrt(difference / whole);
}

std::vector<float> values_of(const Tensor& f32) {
  return {f32.data<float>(), f32.data<float>() + f32.elements()};
}

TEST(E4m3Exponent, IsTheLeastThatHoldsTheAmax) {
  struct Case {
    float amax;
    int exponent;
  };
  for (const auto& [amax, exponent] :
       {Case{448, 0}, Case{std::nextafter(448.0F, 500.0F), 1}, Case{224, -1}, Case{225, 0},
        Case{2688, 3}, Case{1, -8}, Case{0x1p-149F, -100}, Case{0, 0},
        Case{std::numeric_limits<float>::max(), 118}}) {
    EXPECT_EQ(e4m3_exponent(amax), exponent) << amax;
  }
}

struct ShapeCase {
  std::int64_t rows, cols;
};

TEST(E4m3WeightCodes, AreTheNearestOfEveryRow) {
  for (const auto& [rows, cols] : {ShapeCase{1, 1}, ShapeCase{1, 33}, ShapeCase{7, 5},
                                   ShapeCase{1025, 1031}}) {  // the last is divided among threads
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols));
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      std::vector<float> values = normal(rows * cols, 0.02F);
      for (std::int64_t k = 0; k < cols; ++k) values[static_cast<std::size_t>(k)] *= 0x1p-20F;
      const Tensor weight = matrix(rows, cols, values, dtype);
      for (float& value : values) value = dtype == DType::kBF16 ? round_to_bf16(value) : value;
      for (const E4m3Scaling scaling : {E4m3Scaling::kRow, E4m3Scaling::kTensor}) {
        const E4m3Weight made = to_e4m3_weight(weight, scaling);
        const bool shared = scaling == E4m3Scaling::kTensor;
        ASSERT_EQ(made.exponents.size(), static_cast<std::size_t>(shared ? 1 : rows));
        for (std::int64_t i = 0; i < rows * cols; ++i) {
          const auto n = static_cast<std::size_t>(shared ? 0 : i / cols);
          ASSERT_EQ(made.codes.data<std::uint8_t>()[i],
                    to_e4m3_saturated(
                        std::ldexp(values[static_cast<std::size_t>(i)], -made.exponents[n])));
        }
        const std::vector<std::int8_t> exponents(static_cast<std::size_t>(rows),
                                                 made.exponents.front());
        const Tensor back = expand_e4m3_weight(made.codes, 1, shared ? exponents : made.exponents);
        EXPECT_NEAR(made.relative_error, relative_error(values_of(back), values), 1e-12);
        // A normal number is rounded by 2^-4 of itself at most; below 2^-6 by 2^-10 of the scale,
        // which beside the largest of its row, 224 scales at least, is nothing.
        if (!shared) {
          EXPECT_LE(made.relative_error, 0x1p-4 * (1 + 1e-6));
        }
      }
    }
  }
}

TEST(E4m3WeightCodes, OfZerosAndOfWhatIsNotFinite) {
  const E4m3Weight zeros = to_e4m3_weight(matrix(2, 3, {0, 0, 0, 0, 0, 0}), E4m3Scaling::kRow);
  EXPECT_THAT(zeros.exponents, ElementsAre(0, 0));
  EXPECT_EQ(zeros.relative_error, 0);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    LinearWeight weight{.weight = matrix(2, 2, {1, 2, 3, bad}), .name = "blocks.0.q"};
    const Error error = error_of([&] { apply_policy({.plain_as_fp8 = true}, {&weight, 1}); });
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("'blocks.0.q.weight'"), HasSubstr("row 1, column 1"),
                                    HasSubstr(std::isnan(bad) ? "nan" : "inf")));
  }
}

/// Round-trip errors by the ways in which a scale could be chosen.
struct ScaleErrors {
  double tensor_amax, row_amax, tensor_power, row_power, tensor_three_halves;
};

ScaleErrors scale_errors(const std::vector<float>& values, std::int64_t rows) {
  const std::int64_t cols = static_cast<std::int64_t>(values.size()) / rows;
  const auto by_amax = [&](std::int64_t rows_together) {
    std::vector<float> back(values.size());
    std::vector<std::uint8_t> codes(values.size());
    const auto step = static_cast<std::size_t>(rows_together * cols);
    for (std::size_t at = 0; at < values.size(); at += step) {
      const std::span part(values.data() + at, step);
      const float scale = fp8_scale(amax(part), "w");
      quantize_weight_e4m3(part, scale, std::span(codes).subspan(at, step));
      dequantize_e4m3(std::span(codes).subspan(at, step), scale, std::span(back).subspan(at, step));
    }
    return relative_error(back, values);
  };
  const Tensor weight = matrix(rows, cols, values);
  return {by_amax(rows), by_amax(1), to_e4m3_weight(weight, E4m3Scaling::kTensor).relative_error,
          to_e4m3_weight(weight, E4m3Scaling::kRow).relative_error,
          to_e4m3_weight(weight, E4m3Scaling::kTensor, 1.5F).relative_error};
}

void record(const std::string& name, const ScaleErrors& errors) {
  ::testing::Test::RecordProperty(name + " amax/448 of the tensor",
                                  std::to_string(errors.tensor_amax));
  ::testing::Test::RecordProperty(name + " amax/448 of the row", std::to_string(errors.row_amax));
  ::testing::Test::RecordProperty(name + " 2^e of the tensor", std::to_string(errors.tensor_power));
  ::testing::Test::RecordProperty(name + " 2^e of the row", std::to_string(errors.row_power));
  ::testing::Test::RecordProperty(name + " 3/2 2^e of the tensor",
                                  std::to_string(errors.tensor_three_halves));
}

// Rounding to 4 bits of a number between 2^e and 2^(e+1) is off by 2^(e-3) / sqrt(12) on average:
// of all energy, between sqrt(3 / 7) / 8 / sqrt(12) = 0.0236 (uniform density) and 0.0265 (density
// 1/x). That depends little on where the powers of two fall.
TEST(E4m3WeightScales, PowersOfTwoAreAsExactAsAnyScale) {
  const ScaleErrors errors = scale_errors(normal(256 * 512), 256);
  record("normal", errors);
  for (const double error :
       {errors.tensor_amax, errors.row_amax, errors.tensor_power, errors.row_power}) {
    EXPECT_GT(error, 0.023);
    EXPECT_LT(error, 0.0275);
  }
  // Rows that are 2^16 apart leave the range of one scale.
  std::vector<float> uneven = normal(16 * 512);
  for (std::size_t i = 0; i < uneven.size(); ++i) {
    uneven[i] = std::ldexp(uneven[i], -static_cast<int>(i / 512));
  }
  std::vector<float> last(uneven.end() - 512, uneven.end());
  const E4m3Weight rows = to_e4m3_weight(matrix(16, 512, uneven), E4m3Scaling::kRow);
  const E4m3Weight tensor = to_e4m3_weight(matrix(16, 512, uneven), E4m3Scaling::kTensor);
  const auto last_row_error = [&](const E4m3Weight& made, std::int8_t exponent) {
    const Tensor back = expand_e4m3_weight(made.codes.slice(0, 15, 16), 1, {&exponent, 1});
    return relative_error(values_of(back), last);
  };
  EXPECT_LT(last_row_error(rows, rows.exponents.back()), 0x1p-4);
  EXPECT_GT(last_row_error(tensor, tensor.exponents.front()), 0.1);
}

/// ModelOpt's NVFP4 of normally distributed weights: e2m1 * e4m3, without weight_scale_2.
std::vector<float> nvfp4_values(std::int64_t rows, std::int64_t cols) {
  const std::vector<float> w = normal(rows * cols);
  const float scale_2 = amax(w) / (6 * kE4M3Max);
  std::vector<float> values(w.size());
  for (std::size_t block = 0; block < w.size(); block += kNvfp4BlockSize) {
    const float largest = amax(std::span(w).subspan(block, kNvfp4BlockSize));
    const float scale = kE4M3Values[to_e4m3_saturated(largest / (6 * scale_2))];
    for (std::size_t i = block; i < block + kNvfp4BlockSize; ++i) {
      values[i] = kE2M1Values[to_e2m1(w[i] / (scale * scale_2))] * scale;
    }
  }
  return values;
}

// Of e2m1 * e4m3 with a power of two for e2m1, a power of two times an E4M3 number is an E4M3
// number. 3/2 * (8..15) / 8 is none where its numerator has five digits (27, 33, 39, 42, 45): off
// by 2/42 of itself at most. In multiples of 3/2 it is the other way round: 2/3 * (8..15) / 8 is
// off by at most 1/16 of itself, like any number. Most energy is in the 3s and 6s.
TEST(Nvfp4AsFp8, UnitsKeepMostValues) {
  const std::vector<float> values = nvfp4_values(256, 512);
  const ScaleErrors errors = scale_errors(values, 256);
  record("NVFP4", errors);
  EXPECT_LT(errors.tensor_power, 1.0 / 21);
  EXPECT_LT(errors.tensor_power, 0.8 * errors.row_amax);
  EXPECT_NEAR(errors.tensor_power, errors.row_power, 1e-6);
  EXPECT_LT(errors.tensor_three_halves, 0.7 * errors.tensor_power);
  for (const bool threes : {true, false}) {
    std::vector<float> exact;
    for (int m = 8; m < 16; ++m) {
      for (const float e2m1 : {0.5F, 1.0F, 2.0F, 4.0F}) {
        exact.push_back((threes ? 1.5F : 1.0F) * e2m1 * static_cast<float>(m) / 8);
      }
    }
    const Tensor weight = matrix(1, 32, exact);
    EXPECT_EQ(to_e4m3_weight(weight, E4m3Scaling::kTensor, threes ? 1.5F : 1.0F).relative_error, 0);
    EXPECT_GT(to_e4m3_weight(weight, E4m3Scaling::kTensor, threes ? 1.0F : 1.5F).relative_error, 0);
  }
}

LinearWeight nvfp4_weight(const std::string& name, std::optional<float> input_scale) {
  return {.weight = matrix(2, 4, {2688, 3, -6, 1.5F, 6 * 7, 0, 2688, 0}, DType::kBF16),
          .weight_scale = 0.125F,
          .input_scale = input_scale,
          .name = name,
          .format = Format::kNvfp4};
}

TEST(Nvfp4AsFp8, ScalesFollow) {
  std::vector<LinearWeight> weights = {nvfp4_weight("q", 0.5F), nvfp4_weight("k", 0.5F)};
  apply_policy({.nvfp4_as_fp8 = true}, weights);
  for (const LinearWeight& weight : weights) {
    EXPECT_EQ(weight.weight.dtype(), DType::kF8E4M3);
    EXPECT_EQ(weight.weight_scale, 0.75F);  // 2688 = 448 * 3/2 * 2^2, times 0.125
    EXPECT_EQ(weight.input_scale, 3.0F);    // amax / 448 = 6 amax / (6 * 448)
    EXPECT_EQ(weight.weight_error, 0.0);
    EXPECT_TRUE(weight.row_exponents.empty());
    EXPECT_THAT(values_of(expand_e4m3_weight(weight.weight, *weight.weight_scale, {})),
                ElementsAre(336, 0.375F, -0.75F, 0.1875F, 5.25F, 0, 336, 0));
  }
  LinearWeight powers = nvfp4_weight("o", 0.5F);  // exact in multiples of 1 only
  powers.weight = matrix(1, 4, {448 * 4, 1, -0.5F, 7}, DType::kBF16);
  apply_policy({.nvfp4_as_fp8 = true}, {&powers, 1});
  EXPECT_EQ(powers.weight_scale, 0.5F);  // 448 * 4 = 448 * 2^2
  EXPECT_EQ(powers.weight_error, 0.0);
}

TEST(Nvfp4AsFp8, IsWeightOnlyWhereAnyInputIsNotCalibrated) {
  std::vector<LinearWeight> weights = {nvfp4_weight("q", 0.5F), nvfp4_weight("k", {})};
  apply_policy({.nvfp4_as_fp8 = true}, weights);
  for (const LinearWeight& weight : weights) {
    EXPECT_EQ(weight.weight.dtype(), DType::kF8E4M3);
    EXPECT_FALSE(weight.input_scale);
  }
}

/// Weights of one product, as a source gives them.
std::vector<LinearWeight> weight_only_fp8() {
  Tensor codes = Tensor::host({1, 2}, DType::kF8E4M3);
  codes.data<std::uint8_t>()[0] = 0x38;  // 1
  codes.data<std::uint8_t>()[1] = 0xC0;  // -2
  return {{.weight = codes, .weight_scale = 0.3F, .name = "a", .format = Format::kFp8}};
}

TEST(WeightPolicies, LeaveNvfp4ExactByDefault) {
  std::vector<LinearWeight> weights = {nvfp4_weight("q", 0.5F)};
  apply_policy({.keep_fp8 = true, .plain_as_fp8 = true}, weights);
  EXPECT_EQ(weights[0].weight.dtype(), DType::kBF16);
  EXPECT_EQ(weights[0].weight_scale, 0.125F);
  EXPECT_FALSE(weights[0].input_scale);
  EXPECT_FALSE(weights[0].weight_error);
}

TEST(WeightPolicies, WeightOnlyFp8IsExpandedOrKept) {
  std::vector<LinearWeight> weights = weight_only_fp8();
  apply_policy({.keep_fp8 = true}, weights);
  EXPECT_EQ(weights[0].weight.dtype(), DType::kF8E4M3);
  EXPECT_EQ(weights[0].weight_scale, 0.3F);
  apply_policy({}, weights);
  EXPECT_EQ(weights[0].weight.dtype(), DType::kF32);
  EXPECT_FALSE(weights[0].weight_scale);
  EXPECT_THAT(values_of(weights[0].weight), ElementsAre(0.3F, -0.6F));
  EXPECT_FALSE(weights[0].weight_error);
}

TEST(WeightPolicies, StaticFp8IsNobodysChoice) {
  for (const WeightPolicy& policy :
       {WeightPolicy{},
        WeightPolicy{.keep_fp8 = true, .nvfp4_as_fp8 = true, .plain_as_fp8 = true}}) {
    std::vector<LinearWeight> weights = weight_only_fp8();
    weights[0].input_scale = 0.5F;
    apply_policy(policy, weights);
    EXPECT_EQ(weights[0].weight.dtype(), DType::kF8E4M3);
    EXPECT_EQ(weights[0].weight_scale, 0.3F);
    EXPECT_EQ(weights[0].input_scale, 0.5F);
  }
}

TEST(WeightPolicies, PlainWeightsBecomeRowsOfCodesUnlessLeftIn16Bits) {
  const auto plain = [] {
    return LinearWeight{.weight = matrix(2, 2, {448, -1, 0.25F, 0}, DType::kBF16), .name = "a"};
  };
  std::vector<LinearWeight> weights = {plain()};
  apply_policy({.plain_as_fp8 = true}, weights);
  EXPECT_EQ(weights[0].weight.dtype(), DType::kF8E4M3);
  EXPECT_THAT(weights[0].row_exponents, ElementsAre(0, -10));
  EXPECT_EQ(weights[0].weight_error, 0.0);
  EXPECT_FALSE(weights[0].input_scale);

  weights = {plain(), plain()};
  weights[1].left_16_bit = true;
  apply_policy({.plain_as_fp8 = true}, weights);  // one format for all of a product
  for (const LinearWeight& weight : weights) EXPECT_EQ(weight.weight.dtype(), DType::kBF16);
  apply_policy({.keep_fp8 = true, .nvfp4_as_fp8 = true}, weights);
  for (const LinearWeight& weight : weights) EXPECT_EQ(weight.weight.dtype(), DType::kBF16);
}

}  // namespace
}  // namespace dither::quant
