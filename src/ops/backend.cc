#include "ops/backend.h"

#include <utility>

#include "base/error.h"

namespace dither::ops {
namespace {

class RunAgain final : public Recording {
 public:
  explicit RunAgain(std::function<void()> work) : work_(std::move(work)) {}
  void replay() override { work_(); }

 private:
  std::function<void()> work_;
};

}  // namespace

std::unique_ptr<Recording> Backend::record(std::function<void()> work) {
  return std::make_unique<RunAgain>(std::move(work));
}

E4m3Values Backend::e4m3_values(const Shape& /*heads*/) const {
  throw Error(ErrorCode::kInternal, "e4m3_values: this backend has no attention of codes");
}

void Backend::project_heads(std::span<const HeadProjection> /*streams*/, const Rope& /*rope*/,
                            float /*eps*/, const AttentionOperands& /*out*/) {
  throw Error(ErrorCode::kInternal, "project_heads: this backend has no such kernel");
}

void Backend::gated_linear(const Tensor& /*x*/, const PreparedLinear& /*weights*/,
                           Activation /*activation*/, std::optional<float> /*e4m3_scale*/,
                           const Tensor& /*y*/) {
  throw Error(ErrorCode::kInternal, "gated_linear: this backend has no such kernel");
}

}  // namespace dither::ops
