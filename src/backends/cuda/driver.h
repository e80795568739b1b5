#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <string>

#include "backends/cuda/cuda_check.h"

namespace dither::cuda {

/// A function of the driver by its name: we do not link against the driver's library, which a
/// machine without a GPU lacks. Throws kDevice where the driver is too old to have it.
template <typename Function>
Function* driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  check(cudaGetDriverEntryPointByVersion(name, &found, CUDA_VERSION, cudaEnableDefault, &result),
        name);
  if (found == nullptr) {
    throw Error(ErrorCode::kDevice, std::string("cuda: the driver has no ") + name);
  }
  return reinterpret_cast<Function*>(found);
}

/// Throws kDevice with the driver's number.
inline void check_driver(CUresult status, const char* doing) {
  if (status == CUDA_SUCCESS) return;
  throw Error(ErrorCode::kDevice, std::string("cuda: ") + doing + ": the driver answers " +
                                      std::to_string(static_cast<int>(status)));
}

}  // namespace dither::cuda
