#include "tensor/float8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace dither {
namespace {

// Independent of the implementation: sign, exponent and mantissa by definition.
double e4m3_by_definition(unsigned code) {
  const unsigned exponent = (code >> 3) & 15U;
  const unsigned mantissa = code & 7U;
  const double magnitude =
      exponent == 0 ? mantissa * std::ldexp(1.0, -9)
                    : (8.0 + mantissa) * std::ldexp(1.0, static_cast<int>(exponent) - 10);
  return (code & 0x80U) != 0 ? -magnitude : magnitude;
}

TEST(E4M3, DecodesAllCodes) {
  for (unsigned code = 0; code < 256; ++code) {
    if ((code & 0x7FU) == 0x7FU) {
      EXPECT_TRUE(std::isnan(kE4M3Values[code])) << code;
    } else {
      EXPECT_EQ(kE4M3Values[code], e4m3_by_definition(code)) << code;
      EXPECT_EQ(std::signbit(kE4M3Values[code]), code >= 128) << code;
      EXPECT_EQ(to_e4m3(kE4M3Values[code]), code);
    }
  }
}

TEST(E4M3, RoundsAllTiesToEvenAndTheirNeighboursToNearest) {
  for (unsigned code = 0; code < 0x7EU; ++code) {
    const auto low = static_cast<float>(e4m3_by_definition(code));
    const auto high = static_cast<float>(e4m3_by_definition(code + 1));
    const float tie = (low + high) / 2;
    EXPECT_EQ(to_e4m3(tie), code % 2 == 0 ? code : code + 1) << tie;
    EXPECT_EQ(to_e4m3(std::nextafter(tie, 0.0F)), code) << tie;
    EXPECT_EQ(to_e4m3(std::nextafter(tie, 1e9F)), code + 1) << tie;
    EXPECT_EQ(to_e4m3(-tie), 0x80U + (code % 2 == 0 ? code : code + 1)) << tie;
  }
}

struct Conversion {
  float value;
  unsigned code;
  unsigned saturated;
};

class E4M3Conversion : public testing::TestWithParam<Conversion> {};

TEST_P(E4M3Conversion, MatchesTorch) {
  EXPECT_EQ(to_e4m3(GetParam().value), GetParam().code);
  EXPECT_EQ(to_e4m3_saturated(GetParam().value), GetParam().saturated);
}

constexpr float kInf = std::numeric_limits<float>::infinity();
// Values of torch.tensor(v).to(torch.float8_e4m3fn), torch 2.11, CPU and CUDA.
INSTANTIATE_TEST_SUITE_P(
    Table, E4M3Conversion,
    testing::Values(Conversion{0.0F, 0x00, 0x00}, Conversion{-0.0F, 0x80, 0x80},
                    Conversion{0x1p-10F, 0x00, 0x00}, Conversion{1.01F * 0x1p-10F, 0x01, 0x01},
                    Conversion{3 * 0x1p-10F, 0x02, 0x02}, Conversion{0x1p-9F, 0x01, 0x01},
                    Conversion{17.0F, 0x58, 0x58}, Conversion{18.0F, 0x59, 0x59},
                    Conversion{19.0F, 0x5A, 0x5A}, Conversion{27.9F, 0x5E, 0x5E},
                    Conversion{448.0F, 0x7E, 0x7E}, Conversion{464.0F, 0x7E, 0x7E},
                    Conversion{465.0F, 0x7F, 0x7E}, Conversion{500.0F, 0x7F, 0x7E},
                    Conversion{-500.0F, 0xFF, 0xFE}, Conversion{kInf, 0x7F, 0x7E},
                    Conversion{-kInf, 0xFF, 0xFE},
                    Conversion{std::numeric_limits<float>::quiet_NaN(), 0x7F, 0x7F}));

TEST(E2M1, RoundsTiesToTheEvenCodeAndSaturates) {
  const struct {
    float value;
    float expected;
  } table[] = {{0.25F, 0.0F}, {0.75F, 1.0F}, {1.25F, 1.0F}, {1.75F, 2.0F},  {2.5F, 2.0F},
               {3.5F, 4.0F},  {5.0F, 4.0F},  {7.0F, 6.0F},  {-5.1F, -6.0F}, {0.26F, 0.5F}};
  for (const auto& row : table) {
    EXPECT_EQ(kE2M1Values[to_e2m1(row.value)], row.expected) << row.value;
  }
  for (unsigned code = 0; code < 16; ++code) EXPECT_EQ(to_e2m1(kE2M1Values[code]), code);
}

}  // namespace
}  // namespace dither
