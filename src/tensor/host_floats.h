#pragma once

#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace dither {

/// True for the dtypes that read_floats() takes: F32, F16, BF16, F64.
bool is_floating(DType dtype);

/// out[i] = element begin + i of a contiguous host tensor, as float32: exact, but for F64, which is
/// rounded. Throws kUnsupported for other dtypes, kInvalidArgument beyond the end.
void read_floats(const Tensor& tensor, std::int64_t begin, std::span<float> out);

}  // namespace dither
