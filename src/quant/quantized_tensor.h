#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace dither::quant {

/// Number formats in which a linear layer's weight can be stored.
enum class Format : std::uint8_t {
  kNone,   ///< plain F32, F16 or BF16
  kFp8,    ///< E4M3, one scale per tensor, static activation scale (W8A8)
  kNvfp4,  ///< E2M1 in blocks of 16, used as weight-only
};

std::string_view format_name(Format format);

/// A weight with everything that gives its codes a meaning. In host memory.
struct QuantizedTensor {
  Format format = Format::kNone;
  Tensor data;            ///< [N, K] floating point or kF8E4M3; NVFP4: [N, K/2] kU8
  Tensor weight_scale;    ///< FP8: one f32. NVFP4: [N, K/16] kF8E4M3
  Tensor weight_scale_2;  ///< NVFP4: one f32
  Tensor input_scale;     ///< FP8: one f32
};

}  // namespace dither::quant
