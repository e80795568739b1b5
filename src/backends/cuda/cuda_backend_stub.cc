#include "backends/cuda/cuda_backend.h"
#include "base/error.h"

namespace dither {

bool cuda_available() noexcept { return false; }

std::unique_ptr<ops::Backend> make_cuda_backend() {
  throw Error(ErrorCode::kUnsupported,
              "device 'cuda': this dither was built without CUDA; use --device cpu, or build with "
              "-DDITHER_CUDA=ON");
}

}  // namespace dither
