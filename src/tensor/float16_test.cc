#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "tensor/bfloat16.h"
#include "tensor/half.h"

namespace dither {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// The value of a finite binary16, from its definition.
double half_value(unsigned bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31U);
  const double mantissa = bits & 1023U;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits & 0x8000U) != 0 ? -magnitude : magnitude;
}

TEST(Half, EveryCodeDecodesToItsDefinitionAndBack) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto code = static_cast<std::uint16_t>(bits);
    const float value = half_to_float(code);
    if ((bits & 0x7C00U) != 0x7C00U) {
      ASSERT_EQ(value, half_value(bits)) << bits;
      ASSERT_EQ(float_to_half(value), code) << bits;
    } else if ((bits & 1023U) == 0) {
      ASSERT_EQ(value, (bits & 0x8000U) != 0 ? -kInfinity : kInfinity);
      ASSERT_EQ(float_to_half(value), code) << bits;
    } else {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(half_to_float(float_to_half(value)))) << bits;
    }
  }
  EXPECT_TRUE(std::signbit(half_to_float(0x8000)));
}

TEST(Half, RoundsToNearestTiesToEven) {
  for (unsigned bits = 0; bits < 0x7BFF; ++bits) {  // between every two neighbours
    const auto middle = static_cast<float>((half_value(bits) + half_value(bits + 1)) / 2);
    ASSERT_EQ(float_to_half(middle), bits + (bits & 1U)) << bits;
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0F)), bits) << bits;
    ASSERT_EQ(float_to_half(std::nextafter(middle, kInfinity)), bits + 1) << bits;
    ASSERT_EQ(float_to_half(-middle), 0x8000U + bits + (bits & 1U)) << bits;
  }
  EXPECT_EQ(float_to_half(std::nextafter(65520.0F, 0.0F)), 0x7BFF);
  EXPECT_EQ(float_to_half(65520.0F), 0x7C00);  // the tie beyond 65504 goes to infinity
  EXPECT_EQ(float_to_half(std::numeric_limits<float>::max()), 0x7C00);
  EXPECT_EQ(float_to_half(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(Bfloat16, EveryCodeSurvivesAndMiddlesTieToEven) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto code = static_cast<std::uint16_t>(bits);
    const float value = to_float(bf16{code});
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(round_to_bf16(value))) << bits;
      continue;
    }
    ASSERT_EQ(to_bf16(value).bits, code) << bits;
    if (std::isinf(value)) continue;
    const std::uint32_t even = bits + (bits & 1U);
    ASSERT_EQ(to_bf16(std::bit_cast<float>(bits << 16 | 0x7FFFU)).bits, bits);
    ASSERT_EQ(to_bf16(std::bit_cast<float>(bits << 16 | 0x8000U)).bits, even);
    ASSERT_EQ(to_bf16(std::bit_cast<float>(bits << 16 | 0x8001U)).bits, bits + 1);
  }
  EXPECT_TRUE(std::isnan(round_to_bf16(std::bit_cast<float>(0x7F800001U))));  // not to infinity
  EXPECT_TRUE(std::isnan(round_to_bf16(std::bit_cast<float>(0x7FFFFFFFU))));
  EXPECT_TRUE(std::isnan(round_to_bf16(kNan)));
}

}  // namespace
}  // namespace dither
