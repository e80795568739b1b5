#pragma once

#include <memory>

#include "ops/backend.h"

namespace dither {

/// True when this build contains the CUDA backend and the machine has a device that it can use.
/// Never throws: asking is how `--device auto` decides.
bool cuda_available() noexcept;

/// A backend on the current CUDA device. Throws kUnsupported in a build without CUDA, kDevice when
/// there is no usable device.
std::unique_ptr<ops::Backend> make_cuda_backend();

}  // namespace dither
