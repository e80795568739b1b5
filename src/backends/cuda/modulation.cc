#include "backends/cuda/modulation.h"

namespace dither::cuda {

Modulation modulation(const ops::ModulatedNorm& norm, DType dtype, std::int64_t tokens,
                      const Tensor& y, ops::Backend& backend) {
  const bool shared = norm.shift.dim(0) == 1;  // by all samples
  const bool same = shared || row_view(norm.shift).row_stride == row_view(norm.scale).row_stride;
  const auto rows = [&](const Tensor& vectors) {
    if (same) return vectors;
    Tensor copy = Tensor::empty(vectors.shape(), vectors.dtype(), backend);
    backend.copy(vectors, copy);
    return copy;
  };
  Modulation result{.args = {}, .shift = rows(norm.shift), .scale = rows(norm.scale)};
  NormArgs& args = result.args;
  args.y = row_view(y);
  args.dtype = dtype;
  args.eps = norm.eps;
  args.scale_dtype = norm.scale.dtype();
  args.scale = result.scale.raw();
  args.shift = result.shift.raw();
  args.modulation_stride = shared ? 0 : row_view(result.shift).row_stride;
  args.scale_offset = 1;
  args.rows_per_sample = tokens;
  if (norm.e4m3_scale) args.e4m3_reciprocal = 1 / *norm.e4m3_scale;
  return result;
}

}  // namespace dither::cuda
