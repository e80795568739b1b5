#pragma once

#include <cstdint>

#include "pipelines/pipeline.h"

namespace dither {

/// torch.randn(shape, generator=torch.Generator(...).manual_seed(seed), dtype=dtype): what
/// diffusers starts from. f32 in host memory; for kBF16 every value is a bfloat16 value. Throws
/// kInvalidArgument for a dtype other than kF32 and kBF16.
Tensor initial_noise(const Shape& shape, std::uint64_t seed, NoiseSource source, DType dtype);

}  // namespace dither
