#include "backends/cuda/cudnn_attention.h"

#include <cudnn_frontend.h>

#include <algorithm>
#include <array>
#include <compare>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace dither::cuda {
namespace {

namespace fe = cudnn_frontend;
using TensorRef = std::shared_ptr<fe::graph::Tensor_attributes>;

constexpr std::int64_t kAlignment = 16;
constexpr std::int64_t kMaxHeadDim = 128;

enum Uid : std::int64_t {
  kQ = 1,
  kK,
  kV,
  kY,
  kBias,
  kDescaleQ,
  kDescaleK,
  kDescaleV,
  kDescaleS,
  kScaleS,
  kScaleO,
  kAmaxS,
  kAmaxO,
};

/// Strides in elements, in the order of cuDNN's dimensions [B, H, L, D]; D has stride 1.
using HeadStrides = std::array<std::int64_t, 3>;

/// Everything that a plan depends on.
struct Geometry {
  DType dtype = DType::kBF16;
  std::int64_t batch = 0;
  std::int64_t heads = 0;
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  std::int64_t head_dim = 0;
  HeadStrides q{};
  HeadStrides k{};
  HeadStrides v{};
  HeadStrides y{};
  bool causal = false;
  bool bias = false;
  std::array<std::int64_t, 2> bias_strides{};  ///< of H and Lq; Lk has stride 1
  float scale = 1;

  auto operator<=>(const Geometry&) const = default;
};

bool aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(kAlignment) == 0;
}

/// Address and strides that kernels can read 16 bytes at a time. The stride of a dimension of
/// extent 1 is never used, so it may be anything.
bool vector_readable(const Tensor& tensor) {
  const std::int64_t multiple = kAlignment * 8 / dtype_bits(tensor.dtype());
  if (tensor.elements() == 0 || !aligned(tensor.raw()) || tensor.strides().back() != 1) {
    return false;
  }
  for (int i = 0; i + 1 < tensor.rank(); ++i) {
    const std::int64_t stride = tensor.strides()[i];
    if (tensor.dim(i) > 1 && (stride <= 0 || stride % multiple != 0)) return false;
  }
  return true;
}

bool supports_operands(const ops::AttentionOperands& in, DType dtype, std::int64_t multiple) {
  for (const Tensor* tensor : {&in.q, &in.k, &in.v}) {
    if (!tensor->defined() || tensor->rank() != 4 || tensor->dtype() != dtype ||
        !vector_readable(*tensor)) {
      return false;
    }
  }
  const std::int64_t head_dim = in.q.dim(3);
  return head_dim <= kMaxHeadDim && head_dim % multiple == 0 && in.k.shape() == in.v.shape() &&
         in.k.dim(0) == in.q.dim(0) && in.k.dim(2) == in.q.dim(2) && in.k.dim(3) == head_dim;
}

/// Strides of [B, L, H, D] in cuDNN's order. Unused ones get the value that they have in a
/// contiguous tensor, so that equal work has one plan.
HeadStrides head_strides(const Tensor& tensor) {
  const Strides& strides = tensor.strides();
  const std::int64_t head = tensor.dim(2) > 1 ? strides[2] : tensor.dim(3);
  const std::int64_t row = tensor.dim(1) > 1 ? strides[1] : tensor.dim(2) * tensor.dim(3);
  const std::int64_t batch = tensor.dim(0) > 1 ? strides[0] : tensor.dim(1) * row;
  return {batch, head, row};
}

Geometry geometry_of(const ops::AttentionOperands& in, float scale, std::int64_t y_row_stride,
                     std::int64_t y_batch_stride) {
  Geometry geometry;
  geometry.dtype = in.q.dtype();
  geometry.batch = in.q.dim(0);
  geometry.heads = in.q.dim(2);
  geometry.queries = in.q.dim(1);
  geometry.keys = in.k.dim(1);
  geometry.head_dim = in.q.dim(3);
  geometry.q = head_strides(in.q);
  geometry.k = head_strides(in.k);
  geometry.v = head_strides(in.v);
  geometry.y = {geometry.batch > 1 ? y_batch_stride : geometry.queries * y_row_stride,
                geometry.head_dim, y_row_stride};
  geometry.scale = scale;
  return geometry;
}

void require_result(const Geometry& geometry, const void* y) {
  const std::int64_t multiple = kAlignment * 8 / dtype_bits(geometry.dtype);
  const bool fits = geometry.y[2] >= geometry.heads * geometry.head_dim &&
                    geometry.y[2] % multiple == 0 && geometry.y[0] % multiple == 0 && aligned(y);
  if (!fits) {
    throw Error(ErrorCode::kInvalidArgument,
                "attention: result rows of " + std::to_string(geometry.heads * geometry.head_dim) +
                    " elements, stride " + std::to_string(geometry.y[2]) +
                    ", must not overlap and must start at multiples of 16 bytes");
  }
}

/// "BF16 4608 queries, 4608 keys, 24 heads of 128" for messages.
std::string describe(const Geometry& geometry) {
  std::string text = std::string(dtype_name(geometry.dtype)) + " " +
                     std::to_string(geometry.queries) + " queries, " +
                     std::to_string(geometry.keys) + " keys, " + std::to_string(geometry.heads) +
                     " heads of " + std::to_string(geometry.head_dim);
  if (geometry.causal) text += ", causal";
  if (geometry.bias) text += ", biased";
  return text;
}

/// Describes one attention to cuDNN.
class GraphBuilder {
 public:
  explicit GraphBuilder(const Geometry& geometry)
      : geometry_(geometry),
        io_(geometry.dtype == DType::kF8E4M3 ? fe::DataType_t::FP8_E4M3
                                             : fe::DataType_t::BFLOAT16) {
    graph_->set_io_data_type(io_)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
  }

  std::shared_ptr<fe::graph::Graph> bf16(fe::AttentionImplementation_t implementation) {
    auto options = attributes().set_implementation(implementation);
    if (geometry_.bias) options.set_bias(bias());
    const auto [y, stats] = graph_->sdpa(query(), key(), value(), options);
    declare_result(*y);
    return graph_;
  }

  std::shared_ptr<fe::graph::Graph> fp8() {
    const auto [y, stats, amax_s, amax_o] = graph_->sdpa_fp8(
        query(), key(), value(), scalar("descale_q", kDescaleQ), scalar("descale_k", kDescaleK),
        scalar("descale_v", kDescaleV), scalar("descale_s", kDescaleS), scalar("scale_s", kScaleS),
        scalar("scale_o", kScaleO), attributes());
    declare_result(*y);
    amax_s->set_output(true).set_uid(kAmaxS).set_data_type(fe::DataType_t::FLOAT);
    amax_s->set_dim({1, 1, 1, 1}).set_stride({1, 1, 1, 1});
    amax_o->set_output(true).set_uid(kAmaxO).set_data_type(fe::DataType_t::FLOAT);
    amax_o->set_dim({1, 1, 1, 1}).set_stride({1, 1, 1, 1});
    return graph_;
  }

 private:
  fe::graph::SDPA_attributes attributes() const {
    auto options = fe::graph::SDPA_attributes()
                       .set_name("attention")
                       .set_generate_stats(false)
                       .set_attn_scale(geometry_.scale);
    if (geometry_.causal) {
      // Key j is seen by query i when j <= i + 0, counted from the first query and key.
      options.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
          .set_diagonal_band_right_bound(0);
    }
    return options;
  }

  TensorRef query() { return heads("q", kQ, geometry_.queries, geometry_.q); }
  TensorRef key() { return heads("k", kK, geometry_.keys, geometry_.k); }
  TensorRef value() { return heads("v", kV, geometry_.keys, geometry_.v); }

  TensorRef heads(const char* name, Uid uid, std::int64_t tokens, const HeadStrides& strides) {
    return graph_->tensor(fe::graph::Tensor_attributes()
                              .set_name(name)
                              .set_uid(uid)
                              .set_data_type(io_)
                              .set_dim(dims(tokens))
                              .set_stride({strides[0], strides[1], strides[2], 1}));
  }

  /// One table for all samples: batch extent 1 is broadcast.
  TensorRef bias() {
    const std::int64_t table = geometry_.heads * geometry_.bias_strides[0];
    return graph_->tensor(
        fe::graph::Tensor_attributes()
            .set_name("bias")
            .set_uid(kBias)
            .set_data_type(fe::DataType_t::FLOAT)
            .set_dim({1, geometry_.heads, geometry_.queries, geometry_.keys})
            .set_stride({table, geometry_.bias_strides[0], geometry_.bias_strides[1], 1}));
  }

  TensorRef scalar(const char* name, Uid uid) {
    return graph_->tensor(fe::graph::Tensor_attributes()
                              .set_name(name)
                              .set_uid(uid)
                              .set_data_type(fe::DataType_t::FLOAT)
                              .set_dim({1, 1, 1, 1})
                              .set_stride({1, 1, 1, 1}));
  }

  void declare_result(fe::graph::Tensor_attributes& y) const {
    y.set_output(true).set_uid(kY).set_data_type(io_);
    y.set_dim(dims(geometry_.queries))
        .set_stride({geometry_.y[0], geometry_.y[1], geometry_.y[2], 1});
  }

  std::vector<std::int64_t> dims(std::int64_t tokens) const {
    return {geometry_.batch, geometry_.heads, tokens, geometry_.head_dim};
  }

  const Geometry& geometry_;
  fe::DataType_t io_;
  std::shared_ptr<fe::graph::Graph> graph_ = std::make_shared<fe::graph::Graph>();
};

CudnnOperand read_only(Uid uid, const float* data) { return {uid, const_cast<float*>(data)}; }

}  // namespace

class CudnnAttention::Impl {
 public:
  Impl(const CudnnHandle& handle, CudnnScratch scratch)
      : handle_(handle), scratch_(std::move(scratch)) {}

  void run(const Geometry& geometry, std::span<const CudnnOperand> operands) {
    auto found = plans_.find(geometry);
    if (found == plans_.end()) found = plans_.emplace(geometry, make_plan(geometry)).first;
    found->second.run(handle_, operands, scratch_);
  }

 private:
  CudnnPlan make_plan(const Geometry& geometry) const {
    std::string refusals;
    const auto build = [&](std::shared_ptr<fe::graph::Graph> graph) {
      return CudnnPlan::build(handle_, std::move(graph), CudnnEngines::kAny, refusals);
    };
    if (geometry.dtype == DType::kF8E4M3) {
      if (auto plan = build(GraphBuilder(geometry).fp8())) return *std::move(plan);
    } else {
      // The unified node is one engine made for attention; before cuDNN 9.21 it takes neither bias
      // nor mask. The composite one is a graph of products and softmax that cuDNN recognises.
      using enum fe::AttentionImplementation_t;
      for (const auto implementation : {UNIFIED, COMPOSITE}) {
        if (auto plan = build(GraphBuilder(geometry).bf16(implementation))) return *std::move(plan);
      }
    }
    throw Error(ErrorCode::kUnsupported,
                "attention: cuDNN has no kernel for " + describe(geometry) + ": " + refusals);
  }

  const CudnnHandle& handle_;
  CudnnScratch scratch_;
  std::map<Geometry, CudnnPlan> plans_;
};

CudnnAttention::CudnnAttention(const CudnnHandle& handle, CudnnScratch scratch)
    : impl_(std::make_unique<Impl>(handle, std::move(scratch))) {}

CudnnAttention::~CudnnAttention() = default;

bool CudnnAttention::supports(const ops::AttentionOperands& in,
                              const ops::AttentionOptions& options) {
  if (options.out.e4m3_scale || !supports_operands(in, DType::kBF16, 8)) return false;
  const Tensor& bias = options.bias;
  return !bias.defined() || (bias.dtype() == DType::kF32 && vector_readable(bias) &&
                             bias.shape() == Shape{in.q.dim(2), in.q.dim(1), in.k.dim(1)});
}

bool CudnnAttention::supports_fp8(const ops::AttentionOperands& in) {
  return supports_operands(in, DType::kF8E4M3, 16);
}

void CudnnAttention::run(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                         void* y, std::int64_t y_row_stride, std::int64_t y_batch_stride) {
  if (!supports(in, options)) {
    throw Error(ErrorCode::kInvalidArgument,
                "attention: operands that cuDNN does not take: q " + to_string(in.q));
  }
  Geometry geometry = geometry_of(in, options.scale, y_row_stride, y_batch_stride);
  require_result(geometry, y);
  geometry.causal = options.causal;
  std::vector<CudnnOperand> operands = {
      {kQ, in.q.raw()}, {kK, in.k.raw()}, {kV, in.v.raw()}, {kY, y}};
  if (options.bias.defined()) {
    geometry.bias = true;
    geometry.bias_strides = {options.bias.strides()[0], options.bias.strides()[1]};
    operands.push_back({kBias, options.bias.raw()});
  }
  impl_->run(geometry, operands);
}

void CudnnAttention::run_fp8(const ops::AttentionOperands& in, float scale,
                             const Fp8AttentionScales& scales, void* y, std::int64_t y_row_stride,
                             std::int64_t y_batch_stride) {
  if (!supports_fp8(in)) {
    throw Error(ErrorCode::kInvalidArgument,
                "attention: operands that cuDNN's FP8 kernel does not take: q " + to_string(in.q));
  }
  const Geometry geometry = geometry_of(in, scale, y_row_stride, y_batch_stride);
  require_result(geometry, y);
  const std::array<CudnnOperand, 12> operands = {{{kQ, in.q.raw()},
                                                  {kK, in.k.raw()},
                                                  {kV, in.v.raw()},
                                                  {kY, y},
                                                  read_only(kDescaleQ, scales.descale_q),
                                                  read_only(kDescaleK, scales.descale_k),
                                                  read_only(kDescaleV, scales.descale_v),
                                                  read_only(kDescaleS, scales.descale_s),
                                                  read_only(kScaleS, scales.scale_s),
                                                  read_only(kScaleO, scales.scale_o),
                                                  {kAmaxS, scales.amax_s},
                                                  {kAmaxO, scales.amax_o}}};
  for (const CudnnOperand& operand : operands) {
    if (operand.data == nullptr || !aligned(operand.data)) {
      throw Error(ErrorCode::kInvalidArgument,
                  "attention: FP8 needs every scale, at a multiple of 16 bytes");
    }
  }
  impl_->run(geometry, operands);
}

}  // namespace dither::cuda
