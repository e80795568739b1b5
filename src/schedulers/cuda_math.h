#pragma once

namespace dither::schedulers {

/// CUDA's logf for normal x > 0, bit for bit: the arithmetic that nvcc 13.0 emits.
float cuda_log(float x);

struct SinCos {
  float sin;
  float cos;
};

/// CUDA's __sincosf for 0 <= x <= 2 pi, bit for bit as an H200 computes it: fixed-point quadratic
/// interpolation in the manner of Oberman and Siu (ARITH-17, 2005). Checked on 11 million outputs
/// of the hardware. Absolute error up to 4e-7.
SinCos cuda_fast_sincos(float x);

}  // namespace dither::schedulers
