#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <type_traits>

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

}  // namespace dither::cuda
