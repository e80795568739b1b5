#include "quant/fp8.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "tensor/float8.h"

namespace dither::quant {

float fp8_scale(float amax, std::string_view what, float maxbound) {
  if (!std::isfinite(amax) || amax < 0) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: amax is {}, expected a finite number >= 0", what, amax));
  }
  return amax == 0 ? 1.0F : amax / maxbound;
}

Fp8Stats quantize_weight_e4m3(std::span<const float> x, float scale,
                              std::span<std::uint8_t> codes) {
  Fp8Stats stats;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i])) {
      throw Error(ErrorCode::kDataLoss, fmt::format("element {} is {}", i, x[i]));
    }
    const float quotient = x[i] / scale;
    if (std::fabs(quotient) > kE4M3Max) ++stats.clamped;
    codes[i] = to_e4m3_saturated(quotient);
  }
  return stats;
}

void quantize_activation_e4m3(std::span<const float> x, float input_scale,
                              std::span<std::uint8_t> codes) {
  const float reciprocal = 1.0F / input_scale;
  for (std::size_t i = 0; i < x.size(); ++i) codes[i] = to_e4m3_saturated(x[i] * reciprocal);
}

void dequantize_e4m3(std::span<const std::uint8_t> codes, float scale, std::span<float> x) {
  for (std::size_t i = 0; i < codes.size(); ++i) x[i] = kE4M3Values[codes[i]] * scale;
}

float amax(std::span<const float> x) {
  float largest = 0;
  for (const float value : x) {
    if (std::isnan(value)) return std::numeric_limits<float>::quiet_NaN();
    largest = std::max(largest, std::fabs(value));
  }
  return largest;
}

}  // namespace dither::quant
