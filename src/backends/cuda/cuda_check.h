#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include "base/error.h"

namespace dither::cuda {

/// Throws kDevice (kResourceExhausted when memory is what is missing) with the runtime's own name
/// and description of the failure, and what was being done: "launch layer_norm".
inline void check(cudaError_t status, std::string_view doing) {
  if (status == cudaSuccess) return;
  const ErrorCode code =
      status == cudaErrorMemoryAllocation ? ErrorCode::kResourceExhausted : ErrorCode::kDevice;
  throw Error(code, "cuda: " + std::string(doing) + ": " + cudaGetErrorName(status) + ": " +
                        cudaGetErrorString(status));
}

/// After a kernel launch: a launch that was refused, or an earlier asynchronous failure.
inline void check_launch(std::string_view kernel) { check(cudaGetLastError(), kernel); }

}  // namespace dither::cuda
