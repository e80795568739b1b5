#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "backends/cuda/kernels/value_blocks.h"
#include "ops/ops.h"
#include "tensor/float8.h"

namespace dither::cuda_test {

/// Values of an attention in blocks, brought to the host.
class HostValueBlocks {
 public:
  explicit HostValueBlocks(const ops::AttentionOperands& heads)
      : codes_(ops::backend_of(heads.v).download(heads.v)),
        scales_(ops::backend_of(heads.v).download(heads.v_scale)) {}

  std::int64_t blocks() const { return codes_.dim(2); }
  /// Of one key and channel; the place is spelt out as ValueBlocks says.
  std::uint8_t code(std::int64_t sample, std::int64_t head, std::int64_t key,
                    std::int64_t channel) const {
    const std::int64_t inside = key % 16;
    const std::int64_t slot = inside % 8 / 2 * 4 + inside / 8 * 2 + inside % 2;
    const std::int64_t chunk = (key % 64 / 16) ^ (channel / 2 % 4);
    return codes_.data<std::uint8_t>()[block(sample, head, key) * cuda::kValueBlockBytes +
                                       channel * 64 + chunk * 16 + slot];
  }
  float log2_scale(std::int64_t sample, std::int64_t head, std::int64_t key) const {
    return scales_.data<float>()[block(sample, head, key) * cuda::kValueScales];
  }
  float reciprocal(std::int64_t sample, std::int64_t head, std::int64_t key) const {
    return scales_.data<float>()[block(sample, head, key) * cuda::kValueScales + 1];
  }
  float value(std::int64_t sample, std::int64_t head, std::int64_t key,
              std::int64_t channel) const {
    return e4m3_to_float(code(sample, head, key, channel)) / reciprocal(sample, head, key);
  }

  /// Codes and scales are those of `values` [B, L, H, 128], and zeros behind them.
  void expect(const std::vector<float>& values, std::int64_t tokens) const {
    const std::int64_t heads = codes_.dim(1);
    const auto of = [&](std::int64_t b, std::int64_t h, std::int64_t key, std::int64_t c) {
      return key < tokens
                 ? values[static_cast<std::size_t>(((b * tokens + key) * heads + h) * 128 + c)]
                 : 0.0F;
    };
    for (std::int64_t b = 0; b < codes_.dim(0); ++b) {
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t first = 0; first < blocks() * 64; first += 64) {
          float largest = 0x1p-60F;
          for (std::int64_t i = 0; i < 64 * 128; ++i) {
            largest = std::max(largest, std::abs(of(b, h, first + i / 128, i % 128)));
          }
          const float factor = reciprocal(b, h, first);
          if (first < tokens) {  // behind them, scales are nobody's
            ASSERT_NEAR(factor * largest, 448, 448 * 0x1p-22) << "block of key " << first;
            ASSERT_NEAR(log2_scale(b, h, first), -std::log2(factor), 1e-5)
                << "block of key " << first;
          }
          for (std::int64_t i = 0; i < 64 * 128; ++i) {
            const std::int64_t key = first + i / 128;
            ASSERT_EQ(code(b, h, key, i % 128), to_e4m3_saturated(of(b, h, key, i % 128) * factor))
                << "sample " << b << ", head " << h << ", key " << key << ", channel " << i % 128;
          }
        }
      }
    }
  }

 private:
  std::int64_t block(std::int64_t sample, std::int64_t head, std::int64_t key) const {
    return (sample * codes_.dim(1) + head) * blocks() + key / cuda::kValueBlockKeys;
  }

  Tensor codes_;   ///< [B, H, blocks, kValueBlockBytes]
  Tensor scales_;  ///< [B, H, blocks, kValueScales]
};

}  // namespace dither::cuda_test
