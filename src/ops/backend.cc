#include "ops/backend.h"

#include <utility>

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

}  // namespace dither::ops
