#pragma once

#include <cuda.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "backends/cuda/driver.h"
#include "tensor/dtype.h"

namespace dither::cuda {

/// A tensor of kRank dimensions, the contiguous one first, as the copy engine takes it: boxes of
/// rows of 128 bytes, swizzled by 128 bytes; zeros outside. `strides` are bytes, multiples of 16,
/// of all dimensions but the first; `dtype` kBF16, or one byte. Throws kDevice where the driver
/// refuses.
template <std::size_t kRank>
CUtensorMap tensor_map(DType dtype, const void* data,
                       const std::array<std::uint64_t, kRank>& extents,
                       const std::array<std::uint64_t, kRank - 1>& strides,
                       const std::array<std::uint32_t, kRank>& box) {
  static auto* const encode =
      driver_function<decltype(cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  std::array<std::uint32_t, kRank> steps{};
  steps.fill(1);
  CUtensorMap map{};
  check_driver(encode(&map,
                      dtype == DType::kBF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                            : CU_TENSOR_MAP_DATA_TYPE_UINT8,
                      kRank, const_cast<void*>(data), extents.data(), strides.data(), box.data(),
                      steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
               "describe a tensor to the copy engine");
  return map;
}

}  // namespace dither::cuda
