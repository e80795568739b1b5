#include "backends/cuda/lt_matmul.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"

namespace dither::cuda {
namespace {

/// cuBLASLt's recommendation for Hopper.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20U;

void check_lt(cublasStatus_t status, std::string_view doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ErrorCode::kDevice,
              fmt::format("cuBLASLt: {}: {}", doing, cublasLtGetStatusString(status)));
}

cudaDataType_t cuda_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF8E4M3:
      return CUDA_R_8F_E4M3;
    default:
      throw Error(ErrorCode::kInternal,
                  fmt::format("cuda: a product of {} operands", dtype_name(dtype)));
  }
}

/// The largest power of two up to 256 that divides an address: what the library may rely on.
int alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return static_cast<int>(std::min<std::uintptr_t>(256, address == 0 ? 256 : address & -address));
}

template <typename T>
void set(const LtMatmulDesc& desc, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check_lt(cublasLtMatmulDescSetAttribute(desc.get(), attribute, static_cast<const void*>(&value),
                                          sizeof value),
           "describe a product");
}

template <typename T>
void set(const LtLayout& layout, cublasLtMatrixLayoutAttribute_t attribute, const T& value) {
  check_lt(cublasLtMatrixLayoutSetAttribute(layout.get(), attribute, &value, sizeof value),
           "describe a matrix");
}

template <typename T>
void set(const LtPreference& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value) {
  check_lt(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value),
           "state a preference");
}

/// cuBLASLt's matrices are column-major: our rows are its columns.
LtLayout layout_of(const Matrix& matrix, std::int64_t batch) {
  cublasLtMatrixLayout_t raw = nullptr;
  check_lt(cublasLtMatrixLayoutCreate(&raw, cuda_type(matrix.dtype),
                                      static_cast<std::uint64_t>(matrix.cols),
                                      static_cast<std::uint64_t>(matrix.rows), matrix.row_stride),
           "describe a matrix");
  LtLayout layout(raw);
  if (batch > 1) {
    set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batch));
    set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, matrix.batch_stride);
  }
  return layout;
}

/// What C is described as: y, or where y is E4M3 and nothing is added a bf16 matrix of its shape.
Matrix c_of(const Product& product) {
  if (product.beta != 0) return product.c;
  Matrix c = product.y;
  c.data = nullptr;
  if (c.dtype == DType::kF8E4M3) c.dtype = DType::kBF16;
  return c;
}

cublasLtEpilogue_t epilogue_of(const Product& product) {
  if (product.gelu_tanh) {
    return product.bias != nullptr ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
  }
  return product.bias != nullptr ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

/// The pointers of a call; the rest of the description belongs to the plan.
void set_pointers(const LtMatmulDesc& desc, const Product& product) {
  if (product.bias != nullptr) set(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
  if (product.w_scale != nullptr) {
    set(desc, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, product.w_scale);
    set(desc, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, product.x_scale);
  }
  if (product.y_scale != nullptr) set(desc, CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, product.y_scale);
}

}  // namespace

LtMatmul::LtMatmul(std::function<void*(std::size_t)> workspace) : workspace_(std::move(workspace)) {
  cublasLtHandle_t handle = nullptr;
  check_lt(cublasLtCreate(&handle), "start");
  handle_.reset(handle);
}

LtMatmul::Key LtMatmul::key_of(const Product& p) {
  return {{static_cast<int>(p.x.dtype), static_cast<int>(p.w.dtype), static_cast<int>(p.y.dtype)},
          {p.x.rows, p.x.cols, p.y.cols, p.batch, p.x.row_stride, p.w.row_stride, p.y.row_stride,
           p.c.row_stride, p.x.batch_stride, p.w.batch_stride, p.y.batch_stride, p.c.batch_stride},
          {p.w_is_kn, p.beta != 0, p.bias != nullptr, p.gelu_tanh, p.w_scale != nullptr,
           p.y_scale != nullptr, alignment_of(p.x.data), alignment_of(p.w.data),
           alignment_of(p.y.data), alignment_of(p.c.data)}};
}

LtMatmul::Plan LtMatmul::make_plan(const Product& p) const {
  Plan plan;
  cublasLtMatmulDesc_t raw = nullptr;
  check_lt(cublasLtMatmulDescCreate(&raw, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describe a product");
  plan.desc.reset(raw);
  // Column-major D [N, M] = op(A) B with A = w and B = x.
  set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, p.w_is_kn ? CUBLAS_OP_N : CUBLAS_OP_T);
  set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
  set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p));
  if (p.bias != nullptr) {
    const DType bias = p.y.dtype == DType::kF8E4M3 ? DType::kBF16 : p.y.dtype;
    set(plan.desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::int32_t>(cuda_type(bias)));
  }
  if (p.x.dtype == DType::kF8E4M3) {
    // Tensor cores keep about 14 bits of a running sum; promoting it to float32 every 128 products
    // costs up to a tenth of the rate (docs/benchmarks).
    set(plan.desc, CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{1});
  }
  if (p.w_scale != nullptr) {
    const std::int32_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    set(plan.desc, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode);
    set(plan.desc, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode);
  }
  set_pointers(plan.desc, p);
  plan.a = layout_of(p.w, p.batch);
  plan.b = layout_of(p.x, p.batch);
  plan.c = layout_of(c_of(p), p.batch);
  plan.d = layout_of(p.y, p.batch);

  cublasLtMatmulPreference_t raw_preference = nullptr;
  check_lt(cublasLtMatmulPreferenceCreate(&raw_preference), "state a preference");
  const LtPreference preference(raw_preference);
  const auto align = [](const void* data) {
    return static_cast<std::uint32_t>(alignment_of(data));
  };
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align(p.w.data));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align(p.x.data));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
      align(p.beta != 0 ? p.c.data : p.y.data));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, align(p.y.data));

  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_.get(), plan.desc.get(), plan.a.get(), plan.b.get(), plan.c.get(), plan.d.get(),
      preference.get(), 1, &best, &found);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("cuBLASLt: no kernel for a product of {} [{}, {}] and {} [{}, {}] to "
                    "{}: {}",
                    dtype_name(p.x.dtype), p.x.rows, p.x.cols, dtype_name(p.w.dtype), p.w.rows,
                    p.w.cols, dtype_name(p.y.dtype), cublasLtGetStatusString(status)));
  }
  plan.algo = best.algo;
  plan.workspace_bytes = best.workspaceSize;
  return plan;
}

void LtMatmul::run(const Product& product, cudaStream_t stream) {
  const Key key = key_of(product);
  auto found = plans_.find(key);
  if (found == plans_.end()) found = plans_.emplace(key, make_plan(product)).first;
  Plan& plan = found->second;
  set_pointers(plan.desc, product);
  void* const workspace = plan.workspace_bytes > 0 ? workspace_(kWorkspaceBytes) : nullptr;
  const void* const c = product.beta != 0                   ? product.c.data
                        : product.y.dtype == DType::kF8E4M3 ? nullptr
                                                            : product.y.data;
  check_lt(
      cublasLtMatmul(handle_.get(), plan.desc.get(), &product.alpha, product.w.data, plan.a.get(),
                     product.x.data, plan.b.get(), &product.beta, c, plan.c.get(), product.y.data,
                     plan.d.get(), &plan.algo, workspace, plan.workspace_bytes, stream),
      fmt::format("multiply {} [{}, {}] by [{}, {}]", dtype_name(product.x.dtype), product.x.rows,
                  product.x.cols, product.w.rows, product.w.cols));
}

}  // namespace dither::cuda
