#pragma once

#include <memory>

#include "ops/backend.h"
#include "tensor/dtype.h"

namespace dither::cpu {

struct CpuOptions {
  /// Threads of every kernel; 0: what OMP_NUM_THREADS says, else the processors this process may
  /// use.
  int threads = 0;
  /// Use the processor's bfloat16 dot products (AVX512_BF16) for kBF16 where it has them. Without
  /// them kBF16 weights are widened once to float32 and multiplied in float32.
  bool allow_native_bf16 = true;
};

/// Plain loops with double accumulators: what every other kernel is tested against.
std::unique_ptr<ops::Backend> make_cpu_reference_backend();

/// oneDNN products and convolutions, vector kernels chosen for the processor at run time.
std::unique_ptr<ops::Backend> make_cpu_backend(const CpuOptions& options = {});

/// In what that backend multiplies layers of this dtype, as far as this processor goes: kF32 for
/// kBF16 without AVX512_BF16.
DType product_dtype(DType activations);

}  // namespace dither::cpu
