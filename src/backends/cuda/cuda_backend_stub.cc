#include <string>

#include "backends/cuda/cuda_backend.h"
#include "base/error.h"

namespace dither {

bool cuda_available() noexcept { return false; }

std::unique_ptr<ops::Backend> make_cuda_backend(std::optional<std::size_t> /*memory_limit*/) {
  throw Error(ErrorCode::kUnsupported,
              "device 'cuda': this dither was built without CUDA; use --device cpu, or build with "
              "-DDITHER_CUDA=ON");
}

CUstream_st* cuda::stream_of(ops::Backend& backend) {
  throw Error(ErrorCode::kInvalidArgument, "backend '" + std::string(backend.name()) +
                                               "' has no CUDA stream: this dither was built "
                                               "without CUDA");
}

}  // namespace dither
