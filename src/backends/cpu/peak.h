#pragma once

#include "tensor/dtype.h"

namespace dither::cpu {

/// The rate in FLOP/s that `threads` threads (0: as CpuOptions) reach on a large square product of
/// kF32 or kBF16 matrices, best of several runs in about `seconds`: the roof against which a
/// model's share is stated. bf16 on a processor without bf16 products is the widened path's rate.
double measure_matmul_peak(DType dtype, int threads = 0, double seconds = 0.5);

}  // namespace dither::cpu
