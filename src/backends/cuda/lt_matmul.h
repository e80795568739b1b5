#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <map>
#include <tuple>

#include "backends/cuda/handles.h"
#include "tensor/tensor.h"

namespace dither::cuda {

/// One matrix of a product: `rows` x `cols` elements, a row every `row_stride` elements, a matrix
/// of the batch every `batch_stride`.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kBF16;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t batch_stride = 0;
};

/// y = e4m3(gelu(alpha * s_x s_w x op(w) + beta * c + bias)), every part but the product optional.
struct Product {
  Matrix x;  ///< [M, K]
  Matrix w;  ///< [N, K]; with `w_is_kn` [K, N]
  Matrix y;  ///< [M, N]
  bool w_is_kn = false;
  std::int64_t batch = 1;
  float alpha = 1;
  float beta = 0;
  Matrix c = {};               ///< [M, N] of y's dtype, read where beta is not 0
  const void* bias = nullptr;  ///< [N] in y's dtype; bf16 where y is E4M3
  bool gelu_tanh = false;
  const float* w_scale = nullptr;  ///< [N] device, of E4M3 operands; only with x_scale
  const float* x_scale = nullptr;  ///< [M] device
  const float* y_scale = nullptr;  ///< [] device, 64-byte aligned: what y is multiplied by before
                                   ///< it becomes E4M3
};

/// Products through cuBLASLt. What is multiplied is kF32 (true float32), kBF16 or kF8E4M3 with
/// float32 sums. The algorithm is the library's first choice for the shape, kept for later calls;
/// it is not tuned by timing, so that two runs on one machine give the same bits.
class LtMatmul {
 public:
  /// `workspace(bytes)` gives scratch memory that is valid until the next call on the stream.
  explicit LtMatmul(std::function<void*(std::size_t)> workspace);

  /// Throws kUnsupported when the library has no kernel for the product (formats, alignment),
  /// kDevice when it fails.
  void run(const Product& product, cudaStream_t stream);

 private:
  struct Plan {
    LtMatmulDesc desc;
    LtLayout a, b, c, d;
    cublasLtMatmulAlgo_t algo{};
    std::size_t workspace_bytes = 0;
  };
  /// Everything that a plan depends on: dtypes, extents, strides, epilogue, scales, alignments.
  using Key = std::tuple<std::array<int, 3>, std::array<std::int64_t, 12>, std::array<int, 10>>;

  static Key key_of(const Product& product);
  Plan make_plan(const Product& product) const;

  std::function<void*(std::size_t)> workspace_;
  LtHandle handle_;
  std::map<Key, Plan> plans_;
};

}  // namespace dither::cuda
