#pragma once

#include <cstdint>

namespace dither {

/// IEEE 754 binary16 to binary32; exact.
float half_to_float(std::uint16_t bits);

/// Round to nearest, ties to even; values beyond 65504 become infinity, NaN stays NaN.
std::uint16_t float_to_half(float value);

}  // namespace dither
