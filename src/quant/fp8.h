#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace dither::quant {

/// Per-tensor FP8 (E4M3) as NVIDIA ModelOpt defines it: scale = amax / 448, code = e4m3(x / scale),
/// so that the largest magnitude seen in calibration becomes the largest code.

/// The scale of a calibrated amax. An amax of 0 (a layer that only ever saw zeros) gives scale 1.
/// Throws kDataLoss, naming `what`, when amax is negative, infinite or NaN.
float fp8_scale(float amax, std::string_view what, float maxbound = 448.0F);

/// What happened while a tensor was quantized.
struct Fp8Stats {
  std::size_t clamped = 0;  ///< |x / scale| > 448: saturated instead of becoming NaN
};

/// codes[i] = e4m3(clamp(x[i] / scale, +-448)). The division is done in float32, as SGLang's
/// converter does it. Spans have one length. Throws kDataLoss on a NaN or infinity in x.
Fp8Stats quantize_weight_e4m3(std::span<const float> x, float scale, std::span<std::uint8_t> codes);

/// codes[i] = e4m3(clamp(x[i] * r, +-448)) with r = float32(1 / input_scale): activations multiply
/// by the reciprocal at run time, as SGLang's and ModelOpt's kernels do. NaN stays NaN.
void quantize_activation_e4m3(std::span<const float> x, float input_scale,
                              std::span<std::uint8_t> codes);

/// x[i] = value(codes[i]) * scale.
void dequantize_e4m3(std::span<const std::uint8_t> codes, float scale, std::span<float> x);

/// max |x|; NaN when any x is NaN.
float amax(std::span<const float> x);

}  // namespace dither::quant
