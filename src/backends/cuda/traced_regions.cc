#include "backends/cuda/traced_regions.h"

#include <nvtx3/nvToolsExt.h>

#include <string>

namespace dither::cuda {

void TracedRegions::begin(std::string_view name) {
  open_.begin(name);
  nvtxRangePushA(std::string(name).c_str());
  if (trace_) trace_->enter_region(open_.path());
}

void TracedRegions::end() noexcept {
  if (trace_) KernelTrace::leave_region();
  nvtxRangePop();
  open_.end();
}

std::vector<ops::KernelRecord> TracedRegions::trace(const std::function<void()>& work) {
  struct Running {
    explicit Running(TracedRegions& traced) : regions(traced) {
      regions.trace_.emplace();
      regions.tracing_ = true;
    }
    ~Running() {
      regions.tracing_ = false;
      regions.trace_.reset();
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    TracedRegions& regions;
  };
  const Running running(*this);
  work();
  return trace_->stop();
}

}  // namespace dither::cuda
