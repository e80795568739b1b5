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

/// cuDNN's dimensions are [N, C, (D,) H, W] whatever the layout; the strides put channels last.
struct Layout {
  std::vector<std::int64_t> dims;
  std::vector<std::int64_t> strides;
};

/// `frames` 0: of images.
Layout channels_last(std::int64_t n, std::int64_t c, std::int64_t frames, std::int64_t h,
                     std::int64_t w) {
  if (frames == 0) return {.dims = {n, c, h, w}, .strides = {h * w * c, 1, w * c, c}};
  return {.dims = {n, c, frames, h, w}, .strides = {frames * h * w * c, 1, h * w * c, w * c, c}};
}

Layout output_layout(const ConvGeometry& geometry) {
  return channels_last(geometry.batch, geometry.c_out, geometry.out_frames(), geometry.out_h(),
                       geometry.out_w());
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

  /// One number per direction that the input extends in.
  std::vector<std::int64_t> per_direction(std::int64_t t, std::int64_t y, std::int64_t x) const {
    if (geometry_.frames == 0) return {y, x};
    return {t, y, x};
  }

  TensorRef convolution() {
    const ConvGeometry& g = geometry_;
    const auto& [top, left, bottom, right] = g.padding;
    const TensorRef x = input("x", kX, channels_last(g.batch, g.c_in, g.frames, g.h, g.w));
    const TensorRef weight = input(
        "weight", kWeight, channels_last(g.c_out, g.c_in, g.frames == 0 ? 0 : g.kt, g.kh, g.kw));
    return graph_->conv_fprop(x, weight,
                              fe::graph::Conv_fprop_attributes()
                                  .set_name("convolution")
                                  .set_pre_padding(per_direction(0, top, left))
                                  .set_post_padding(per_direction(0, bottom, right))
                                  .set_stride(per_direction(g.stride_t, g.stride, g.stride))
                                  .set_dilation(per_direction(1, 1, 1)));
  }

  /// Residual before bias: the order of the pattern that cuDNN's compiled kernels know.
  TensorRef additions(TensorRef sum) {
    if (geometry_.residual) {
      sum = add("residual", sum, input("residual", kResidual, output_layout(geometry_)));
    }
    if (geometry_.bias) {
      sum = add("bias", sum,
                input("bias", kBias,
                      channels_last(1, geometry_.c_out, geometry_.frames == 0 ? 0 : 1, 1, 1)));
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
  const bool video = geometry.frames != 0;
  return std::string(dtype_name(geometry.dtype)) + " " +
         (video ? std::to_string(geometry.frames) + " x " : "") + by(geometry.h, geometry.w) +
         (video ? " video, " : " image, ") + std::to_string(geometry.c_in) + " -> " +
         std::to_string(geometry.c_out) + " channels, " +
         (video ? std::to_string(geometry.kt) + " x " : "") + by(geometry.kh, geometry.kw) +
         " kernel, stride " + (video ? std::to_string(geometry.stride_t) + " x " : "") +
         std::to_string(geometry.stride);
}

bool valid(const ConvGeometry& geometry) {
  const std::int64_t multiple = geometry.dtype == DType::kBF16 ? 8 : 1;
  return (geometry.dtype == DType::kBF16 || geometry.dtype == DType::kF32) && geometry.batch > 0 &&
         geometry.c_in > 0 && geometry.c_out > 0 && geometry.kh > 0 && geometry.kw > 0 &&
         geometry.stride > 0 && geometry.kt > 0 && geometry.stride_t > 0 &&
         (geometry.frames == 0 ? geometry.kt == 1 : geometry.frames >= geometry.kt) &&
         geometry.c_in % multiple == 0 && geometry.c_out % multiple == 0 &&
         geometry.h + geometry.padding[0] + geometry.padding[2] >= geometry.kh &&
         geometry.w + geometry.padding[1] + geometry.padding[3] >= geometry.kw;
}

void check(const ConvGeometry& geometry) {
  if (valid(geometry)) return;
  throw Error(ErrorCode::kInvalidArgument,
              "convolution: impossible geometry: " + describe(geometry));
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
    const Attempt& attempt = plans_of(geometry);
    if (!attempt.plans) {
      throw Error(ErrorCode::kUnsupported, "convolution: cuDNN has no kernel for " +
                                               describe(geometry) + ": " + attempt.refusals);
    }
    const Plans& plans = *attempt.plans;

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

  bool supports(const ConvGeometry& geometry) { return plans_of(geometry).plans.has_value(); }

 private:
  struct Plans {
    CudnnPlan convolution;               ///< with the additions in it, unless they follow
    std::optional<CudnnPlan> additions;  ///< in place on y
  };
  struct Attempt {
    std::optional<Plans> plans;
    std::string refusals;  ///< why there are none
  };

  const Attempt& plans_of(const ConvGeometry& geometry) {
    auto found = plans_.find(geometry);
    if (found == plans_.end()) found = plans_.emplace(geometry, make_plans(geometry)).first;
    return found->second;
  }

  Attempt make_plans(const ConvGeometry& geometry) const {
    const CudnnEngines engines =
        geometry.dtype == DType::kF32 ? CudnnEngines::kExactF32 : CudnnEngines::kDeterministic;
    Attempt attempt;
    std::string& refusals = attempt.refusals;
    auto fused = CudnnPlan::build(handle_, GraphBuilder(geometry).fused(), engines, refusals);
    if (fused) {
      attempt.plans = Plans{.convolution = *std::move(fused), .additions = std::nullopt};
      return attempt;
    }
    if (!geometry.bias && !geometry.residual) return attempt;
    auto convolution =
        CudnnPlan::build(handle_, GraphBuilder(geometry).convolution_alone(), engines, refusals);
    if (!convolution) return attempt;
    // Additions have no products that an engine could round.
    std::optional<CudnnPlan> additions = CudnnPlan::build(
        handle_, GraphBuilder(geometry).additions_alone(), CudnnEngines::kDeterministic, refusals);
    if (additions) {
      attempt.plans =
          Plans{.convolution = *std::move(convolution), .additions = std::move(additions)};
    }
    return attempt;
  }

  const CudnnHandle& handle_;
  CudnnScratch scratch_;
  std::map<ConvGeometry, Attempt> plans_;
};

CudnnConv::CudnnConv(const CudnnHandle& handle, CudnnScratch scratch)
    : impl_(std::make_unique<Impl>(handle, std::move(scratch))) {}

CudnnConv::~CudnnConv() = default;

bool CudnnConv::supports(const ConvGeometry& geometry) {
  check(geometry);
  return impl_->supports(geometry);
}

void CudnnConv::run(const ConvGeometry& geometry, const void* x, const void* weight,
                    const void* bias, const void* residual, void* y) {
  check(geometry);
  const bool complete = present(x) && present(weight) && present(y) &&
                        (geometry.bias ? present(bias) : bias == nullptr) &&
                        (geometry.residual ? present(residual) : residual == nullptr);
  if (!complete) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "convolution: operands disagree with the geometry or do not start at multiples of 16 "
        "bytes: " +
            describe(geometry));
  }
  impl_->run(geometry, x, weight, bias, residual, y);
}

}  // namespace dither::cuda
