#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/types.h"
#include "tensor/tensor.h"

namespace dither::cuda {

/// y = activation(x), or activation(x) * b where b.data is not null; rows of dtype. Reads each
/// operand once.
struct ActivateArgs {
  RowView x;
  RowView b;
  RowView y;  ///< of dtype, or E4M3 codes
  DType dtype = DType::kF32;
  ops::Activation activation = ops::Activation::kNone;
  /// Not 0: y = e4m3_saturated(result rounded to dtype * e4m3_reciprocal).
  float e4m3_reciprocal = 0;
};
void launch_activate(const ActivateArgs& args, cudaStream_t stream);

/// y[i] = alpha * a[i] + beta * b[i % period] + offset, contiguous, in float32 with one rounding;
/// b null: absent. y may be a or b. Reads each operand once.
struct AxpbyArgs {
  const void* a = nullptr;
  const void* b = nullptr;
  void* y = nullptr;
  DType dtype = DType::kF32;
  float alpha = 1;
  float beta = 0;
  float offset = 0;
  std::int64_t count = 0;
  std::int64_t period = 1;
};
void launch_axpby(const AxpbyArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
