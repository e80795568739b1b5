#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace dither::quant {

/// A weight as E4M3 codes that were made of it:
///   w[n, k] = value(code[n, k]) * unit * 2^exponents[n].
///
/// Where nothing is known of the numbers, the unit is 1 and scales are powers of two. E4M3 is a
/// floating-point format, so that a scale decides which magnitudes it covers, 2^-9 to 448, and not
/// how finely it divides them; and a power of two can be multiplied into bfloat16 operands without
/// rounding.
struct E4m3Weight {
  Tensor codes;                        ///< [N, K] kF8E4M3, in host memory
  std::vector<std::int8_t> exponents;  ///< [N], or one for all rows
  double relative_error = 0;           ///< |codes * scales - w| / |w|, Euclidean norms
};

/// The least e with amax <= 448 * 2^e, within -100 and 118; 0 for an amax of 0. Beyond those bounds
/// codes times 2^e would leave float32: weights saturate or become 0, which relative_error shows.
int e4m3_exponent(float amax);

/// Which weights share an exponent.
enum class E4m3Scaling : std::uint8_t { kTensor, kRow };

/// Codes of an [N, K] floating-point weight in host memory. Throws kDataLoss, with row and column,
/// on a NaN or infinity. Large weights are divided among the processor's threads.
E4m3Weight to_e4m3_weight(const Tensor& weight, E4m3Scaling scaling, float unit = 1);

/// value(code) * scale * 2^row_exponents[n] in float32, [N, K]; no exponents: 1.
Tensor expand_e4m3_weight(const Tensor& codes, float scale,
                          std::span<const std::int8_t> row_exponents);

}  // namespace dither::quant
