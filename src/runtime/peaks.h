#pragma once

#include "ops/backend.h"
#include "tensor/dtype.h"

namespace dither {

/// The rate of large matrix products on a backend, in GFLOP/s: the best of several within about
/// half a second. What a model's step can be held against. m = n = k = 2048, or 8192 on a device
/// that is done with those before it is busy (more than 10 TFLOP/s). `dtype` is that of
/// activations, kF32 or kBF16. Throws what the backend throws.
double measure_matmul_peak(ops::Backend& backend, DType dtype);

/// The rate of large copies within a backend's memory, in GB/s read and written together: the best
/// of several of 128 MiB. What an operation that multiplies nothing can be held against. Throws
/// what the backend throws.
double measure_copy_peak(ops::Backend& backend);

}  // namespace dither
