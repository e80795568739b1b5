#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/dtype.h"

/// A 3 x 3 convolution of an image whose pixels were doubled in both directions reads each pixel of
/// the small image up to four times. Its rows of even and of odd index are convolutions of the
/// small image with 2 rows of weights each, w_0 | w_1 + w_2 and w_0 + w_1 | w_2, columns likewise:
/// 4/9 of the products. The four phases lie side by side in the channels of one image.
namespace dither::cuda {

/// y [4 c_out, 2, 2, row] of dtype, row >= c_in, from weight [c_out, c_in, 3, 3]: entry
/// (2 a + b) c_out + o is phase (row a, column b) of output channel o. Sums in float32, rounded
/// once; columns from c_in on are not written.
struct FoldUpsamplingArgs {
  const float* weight = nullptr;
  void* y = nullptr;
  DType dtype = DType::kF32;
  std::int64_t c_out = 0;
  std::int64_t c_in = 0;
  std::int64_t row = 0;
};
void launch_fold_upsampling(const FoldUpsamplingArgs& args, cudaStream_t stream);

/// y[2i + a, 2j + b, :] = phases[i + a, j + b, (2 a + b) channels ...]: phases [samples, height +
/// 1, width + 1, row], row >= 4 channels -> y [samples, 2 height, 2 width, channels], contiguous,
/// of kF32 or kBF16. Reads and writes each element once.
struct JoinPhasesArgs {
  const void* phases = nullptr;
  void* y = nullptr;
  DType dtype = DType::kF32;
  std::int64_t samples = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t channels = 0;
  std::int64_t row = 0;
};
void launch_join_phases(const JoinPhasesArgs& args, cudaStream_t stream);

}  // namespace dither::cuda
