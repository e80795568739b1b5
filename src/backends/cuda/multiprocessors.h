#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/cuda_check.h"

namespace dither::cuda {

/// Of the current device.
inline int multiprocessors() {
  int device = 0;
  int count = 0;
  check(cudaGetDevice(&device), "find the device");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
        "count multiprocessors");
  return count;
}

}  // namespace dither::cuda
