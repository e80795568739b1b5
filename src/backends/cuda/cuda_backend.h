#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "ops/backend.h"

struct CUstream_st;

namespace dither {

/// True when this build contains the CUDA backend and the machine has a device that it can use.
/// Never throws: asking is how `--device auto` decides.
bool cuda_available() noexcept;

/// A backend on the current CUDA device, whose tensors and weights take at most `memory_limit`
/// bytes; absent: what the device has. Throws kUnsupported in a build without CUDA; kDevice,
/// saying what is needed, when there is no device, its driver is too old or it is not of compute
/// capability 9.0 (Hopper: the kernels are built for its FP8 units alone).
std::unique_ptr<ops::Backend> make_cuda_backend(
    std::optional<std::size_t> memory_limit = std::nullopt);

namespace cuda {

/// The stream that a backend of make_cuda_backend() submits to. Throws kInvalidArgument for
/// another backend.
CUstream_st* stream_of(ops::Backend& backend);

}  // namespace cuda
}  // namespace dither
