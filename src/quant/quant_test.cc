#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/error.h"
#include "quant/config.h"
#include "quant/fp8.h"
#include "quant/nvfp4.h"
#include "tensor/bfloat16.h"
#include "tensor/float8.h"

namespace dither::quant {
namespace {

TEST(Fp8Scale, IsAmaxOverMaxbound) {
  EXPECT_EQ(fp8_scale(224.0F, "x"), 0.5F);
  EXPECT_EQ(fp8_scale(4.48F, "x"), 4.48F / 448.0F);
  EXPECT_EQ(fp8_scale(0.0F, "x"), 1.0F);
  for (const float bad :
       {-1.0F, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    EXPECT_THROW(fp8_scale(bad, "x"), Error) << bad;
  }
}

TEST(Fp8Weight, ClampsAndCounts) {
  const std::array<float, 4> x = {1.0F, -1.0F, 500.0F, 0.01F};
  std::array<std::uint8_t, 4> codes{};
  EXPECT_EQ(quantize_weight_e4m3(x, 1.0F, codes).clamped, 1U);
  EXPECT_EQ(codes[2], 0x7E);
  EXPECT_EQ(codes[1], to_e4m3(-1.0F));
  const std::array<float, 1> bad = {std::numeric_limits<float>::quiet_NaN()};
  EXPECT_THROW(quantize_weight_e4m3(bad, 1.0F, std::span(codes).first(1)), Error);
}

TEST(Fp8Activation, MultipliesByTheReciprocal) {
  // 0.3 / 0.1 and 0.3 * (1 / 0.1) differ in float32; the run-time rule is the product.
  const std::array<float, 2> x = {0.3F, -1e9F};
  std::array<std::uint8_t, 2> codes{};
  quantize_activation_e4m3(x, 0.1F, codes);
  EXPECT_EQ(codes[0], to_e4m3(0.3F * (1.0F / 0.1F)));
  EXPECT_EQ(codes[1], 0xFE);
}

TEST(Nvfp4, EqualsDefinitionInBothOrdersAndLayouts) {
  constexpr std::int64_t kRows = 131;  // ragged against the 128 x 4 tiles
  constexpr std::int64_t kCols = 16 * 7;
  std::mt19937 random(1);
  for (const NibbleOrder nibbles : {NibbleOrder::kLowFirst, NibbleOrder::kHighFirst}) {
    for (const ScaleLayout layout : {ScaleLayout::kRowMajor, ScaleLayout::kSwizzled}) {
      std::vector<std::uint8_t> codes(kRows * kCols / 2);
      std::vector<std::uint8_t> scales(nvfp4_scale_bytes(kRows, kCols / 16, layout), 0x7F);
      std::vector<double> expected(kRows * kCols);
      for (std::int64_t n = 0; n < kRows; ++n) {
        for (std::int64_t block = 0; block < kCols / 16; ++block) {
          const auto scale = static_cast<std::uint8_t>(random() % 0x7F);
          scales[layout == ScaleLayout::kRowMajor
                     ? static_cast<std::size_t>(n * (kCols / 16) + block)
                     : nvfp4_swizzled_index(n, block, kCols / 16)] = scale;
          for (std::int64_t k = block * 16; k < block * 16 + 16; ++k) {
            const unsigned code = random() % 16;
            const bool high = (k % 2 == 0) == (nibbles == NibbleOrder::kHighFirst);
            codes[static_cast<std::size_t>((n * kCols + k) / 2)] |=
                static_cast<std::uint8_t>(high ? code << 4 : code);
            const std::array<double, 8> values = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
            const double magnitude = values[code & 7U];
            expected[static_cast<std::size_t>(n * kCols + k)] =
                ((code & 8U) != 0 ? -magnitude : magnitude) * e4m3_to_float(scale);
          }
        }
      }
      std::vector<float> out(kRows * kCols);
      nvfp4_expand({codes, scales, 1.0F, kRows, kCols, nibbles, layout}, out);
      for (std::size_t i = 0; i < out.size(); ++i) {
        ASSERT_EQ(out[i], expected[i]) << i;
        ASSERT_EQ(round_to_bf16(out[i]), out[i]) << "not exact in bfloat16";
      }
    }
  }
}

TEST(IgnorePatterns, MatchWholeNames) {
  const struct {
    const char* pattern;
    const char* name;
    bool matches;
  } table[] = {
      {"proj_out", "proj_out", true},
      {"proj_out", "single_transformer_blocks.0.proj_out", false},
      {"blocks.0*", "blocks.0.attn1.to_q", true},
      {"blocks.0*", "blocks.10.attn1.to_q", false},
      {"blocks.1.*", "blocks.1.ffn.net.2", true},
      {"blocks.1.*", "blocks.12.ffn.net.2", false},
      {"norm_out*", "norm_out.linear", true},
      {"*.proj_out", "a.b.proj_out", true},
      {"a*b*c", "aXbYbZc", true},
      {"a*b*c", "aXbYbZ", false},
      {"x.y", "xzy", false},  // '.' is no wildcard
      {"*", "", true},
      {"", "", true},
      {"", "a", false},
  };
  for (const auto& row : table) {
    EXPECT_EQ(matches_pattern(row.pattern, row.name), row.matches)
        << row.pattern << " on " << row.name;
  }
}

}  // namespace
}  // namespace dither::quant
