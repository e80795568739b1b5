#pragma once

#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace dither::cpu {

/// to = from, element by element: equal shapes, any strides. Converts between F32, BF16, F16 and
/// F64 (rounding to nearest even); other dtypes only to themselves, else throws kUnsupported.
/// `threads` share the work when it is large.
void copy_strided(const Tensor& from, const Tensor& to, int threads = 1);

/// All elements in row-major order as float32. F32, BF16, F16 or F64; else throws kUnsupported.
std::vector<float> to_floats(const Tensor& tensor);

/// The inverse: rounds once, to the dtype of `tensor`. Takes elements() values.
void from_floats(std::span<const float> values, const Tensor& tensor);

}  // namespace dither::cpu
