#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <type_traits>

#include "backends/cuda/cuda_check.h"

namespace dither::cuda {

/// Destroys a handle of a C library; a failure is logged, since destructors do not throw.
template <auto Destroy>
struct Destroyer {
  template <typename T>
  void operator()(T* handle) const noexcept {
    if (const auto status = Destroy(handle); status != 0) {
      spdlog::warn("cuda: destroying a handle failed with status {}", static_cast<int>(status));
    }
  }
};

template <typename Handle, auto Destroy>
using Unique = std::unique_ptr<std::remove_pointer_t<Handle>, Destroyer<Destroy>>;

using Stream = Unique<cudaStream_t, cudaStreamDestroy>;
using Event = Unique<cudaEvent_t, cudaEventDestroy>;
using Graph = Unique<cudaGraph_t, cudaGraphDestroy>;
using GraphExec = Unique<cudaGraphExec_t, cudaGraphExecDestroy>;
using PinnedMemory = std::unique_ptr<void, Destroyer<cudaFreeHost>>;
using LtHandle = Unique<cublasLtHandle_t, cublasLtDestroy>;
using LtMatmulDesc = Unique<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using LtLayout = Unique<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using LtPreference = Unique<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// A stream that does not wait for the default one. Throws as check().
inline Stream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create a stream");
  return Stream(stream);
}

/// An event that orders work and takes no times. Throws as check().
inline Event make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "create an event");
  return Event(event);
}

}  // namespace dither::cuda
