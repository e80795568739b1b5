#include "backends/cuda/cudnn_conv.h"

#include <cudnn_frontend.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace dither::cuda {
namespace {

namespace fe = cudnn_frontend;
using TensorRef = std::shared_ptr<fe::graph::Tensor_attributes>;

enum Uid : std::int64_t { kX = 1, kWeight, kBias, kResidual, kY, kProduct };

/// cuDNN's dimensions are [N, C, H, W] whatever the layout; the strides make it NHWC.
struct Layout {
  std::vector<std::int64_t> dims;
  std::vector<std::int64_t> strides;
};

Layout nhwc(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  return {.dims = {n, c, h, w}, .strides = {h * w * c, 1, w * c, c}};
}

Layout output_layout(const ConvGeometry& geometry) {
  return nhwc(geometry.batch, geometry.c_out, geometry.out_h(), geometry.out_w());
}

/// Describes a convolution, the additions after it, or both to cuDNN.
class GraphBuilder {
 public:
  explicit GraphBuilder(const ConvGeometry& geometry)
      : geometry_(geometry),
        io_(geometry.dtype == DType::kF32 ? fe::DataType_t::FLOAT : fe::DataType_t::BFLOAT16) {
    graph_->set_io_data_type(io_)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
  }

  std::shared_ptr<fe::graph::Graph> fused() { return finish(additions(convolution())); }

  std::shared_ptr<fe::graph::Graph> convolution_alone() { return finish(convolution()); }

  /// kY = kProduct + residual + bias; both may lie in the same place.
  std::shared_ptr<fe::graph::Graph> additions_alone() {
    return finish(additions(input("product", kProduct, output_layout(geometry_))));
  }

 private:
  TensorRef input(const char* name, Uid uid, const Layout& layout) {
    return graph_->tensor(fe::graph::Tensor_attributes()
                              .set_name(name)
                              .set_uid(uid)
                              .set_data_type(io_)
                              .set_dim(layout.dims)
                              .set_stride(layout.strides));
  }

  TensorRef convolution() {
    const auto& [top, left, bottom, right] = geometry_.padding;
    const TensorRef x =
        input("x", kX, nhwc(geometry_.batch, geometry_.c_in, geometry_.h, geometry_.w));
    const TensorRef weight =
        input("weight", kWeight, nhwc(geometry_.c_out, geometry_.c_in, geometry_.kh, geometry_.kw));
    return graph_->conv_fprop(x, weight,
                              fe::graph::Conv_fprop_attributes()
                                  .set_name("convolution")
                                  .set_pre_padding({top, left})
                                  .set_post_padding({bottom, right})
                                  .set_stride({geometry_.stride, geometry_.stride})
                                  .set_dilation({1, 1}));
  }

  /// Residual before bias: the order of the pattern that cuDNN's compiled kernels know.
  TensorRef additions(TensorRef sum) {
    if (geometry_.residual) {
      sum = add("residual", sum, input("residual", kResidual, output_layout(geometry_)));
    }
    if (geometry_.bias) {
      sum = add("bias", sum, input("bias", kBias, nhwc(1, geometry_.c_out, 1, 1)));
    }
    return sum;
  }

  TensorRef add(const char* name, const TensorRef& a, const TensorRef& b) {
    return graph_->pointwise(a, b,
                             fe::graph::Pointwise_attributes()
                                 .set_name(std::string("add_") + name)
                                 .set_mode(fe::PointwiseMode_t::ADD));
  }

  std::shared_ptr<fe::graph::Graph> finish(const TensorRef& y) {
    const Layout layout = output_layout(geometry_);
    y->set_output(true).set_uid(kY).set_data_type(io_);
    y->set_dim(layout.dims).set_stride(layout.strides);
    return graph_;
  }

  const ConvGeometry& geometry_;
  fe::DataType_t io_;
  std::shared_ptr<fe::graph::Graph> graph_ = std::make_shared<fe::graph::Graph>();
};

std::string describe(const ConvGeometry& geometry) {
  const auto by = [](std::int64_t a, std::int64_t b) {
    return std::to_string(a) + " x " + std::to_string(b);
  };
  return std::string(dtype_name(geometry.dtype)) + " " + by(geometry.h, geometry.w) + " image, " +
         std::to_string(geometry.c_in) + " -> " + std::to_string(geometry.c_out) + " channels, " +
         by(geometry.kh, geometry.kw) + " kernel, stride " + std::to_string(geometry.stride);
}

bool valid(const ConvGeometry& geometry) {
  const std::int64_t multiple = geometry.dtype == DType::kBF16 ? 8 : 1;
  return (geometry.dtype == DType::kBF16 || geometry.dtype == DType::kF32) && geometry.batch > 0 &&
         geometry.c_in > 0 && geometry.c_out > 0 && geometry.kh > 0 && geometry.kw > 0 &&
         geometry.stride > 0 && geometry.c_in % multiple == 0 && geometry.c_out % multiple == 0 &&
         geometry.h + geometry.padding[0] + geometry.padding[2] >= geometry.kh &&
         geometry.w + geometry.padding[1] + geometry.padding[3] >= geometry.kw;
}

bool present(const void* data) {
  return data != nullptr && reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

CudnnOperand read_only(Uid uid, const void* data) { return {uid, const_cast<void*>(data)}; }

}  // namespace

class CudnnConv::Impl {
 public:
  Impl(const CudnnHandle& handle, CudnnScratch scratch)
      : handle_(handle), scratch_(std::move(scratch)) {}

  void run(const ConvGeometry& geometry, const void* x, const void* weight, const void* bias,
           const void* residual, void* y) {
    auto found = plans_.find(geometry);
    if (found == plans_.end()) found = plans_.emplace(geometry, make_plans(geometry)).first;
    const Plans& plans = found->second;

    std::vector<CudnnOperand> multiplied = {read_only(kX, x), read_only(kWeight, weight), {kY, y}};
    std::vector<CudnnOperand> added;
    if (geometry.residual) added.push_back(read_only(kResidual, residual));
    if (geometry.bias) added.push_back(read_only(kBias, bias));
    if (!plans.additions) {
      multiplied.insert(multiplied.end(), added.begin(), added.end());
      return plans.convolution.run(handle_, multiplied, scratch_);
    }
    plans.convolution.run(handle_, multiplied, scratch_);
    added.push_back({kProduct, y});
    added.push_back({kY, y});
    plans.additions->run(handle_, added, scratch_);
  }

 private:
  struct Plans {
    CudnnPlan convolution;               ///< with the additions in it, unless they follow
    std::optional<CudnnPlan> additions;  ///< in place on y
  };

  Plans make_plans(const ConvGeometry& geometry) const {
    const CudnnEngines engines =
        geometry.dtype == DType::kF32 ? CudnnEngines::kExactF32 : CudnnEngines::kDeterministic;
    std::string refusals;
    auto fused = CudnnPlan::build(handle_, GraphBuilder(geometry).fused(), engines, refusals);
    if (fused) return {.convolution = *std::move(fused), .additions = std::nullopt};
    if (geometry.bias || geometry.residual) {
      auto convolution =
          CudnnPlan::build(handle_, GraphBuilder(geometry).convolution_alone(), engines, refusals);
      // Additions have no products that an engine could round.
      auto additions = CudnnPlan::build(handle_, GraphBuilder(geometry).additions_alone(),
                                        CudnnEngines::kDeterministic, refusals);
      if (convolution && additions) {
        return {.convolution = *std::move(convolution), .additions = std::move(additions)};
      }
    }
    throw Error(ErrorCode::kUnsupported,
                "conv2d: cuDNN has no kernel for " + describe(geometry) + ": " + refusals);
  }

  const CudnnHandle& handle_;
  CudnnScratch scratch_;
  std::map<ConvGeometry, Plans> plans_;
};

CudnnConv::CudnnConv(const CudnnHandle& handle, CudnnScratch scratch)
    : impl_(std::make_unique<Impl>(handle, std::move(scratch))) {}

CudnnConv::~CudnnConv() = default;

void CudnnConv::run(const ConvGeometry& geometry, const void* x, const void* weight,
                    const void* bias, const void* residual, void* y) {
  if (!valid(geometry)) {
    throw Error(ErrorCode::kInvalidArgument, "conv2d: impossible geometry: " + describe(geometry));
  }
  const bool complete = present(x) && present(weight) && present(y) &&
                        (geometry.bias ? present(bias) : bias == nullptr) &&
                        (geometry.residual ? present(residual) : residual == nullptr);
  if (!complete) {
    throw Error(ErrorCode::kInvalidArgument,
                "conv2d: operands disagree with the geometry or do not start at multiples of 16 "
                "bytes: " +
                    describe(geometry));
  }
  impl_->run(geometry, x, weight, bias, residual, y);
}

}  // namespace dither::cuda
