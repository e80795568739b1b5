#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "backends/cuda/kernel_trace.h"
#include "ops/backend.h"
#include "ops/region.h"

namespace dither::cuda {

/// A backend's regions: NVTX ranges, which a profiler that is attached shows (without one a range
/// is a test of a pointer), and the regions of a trace's kernels.
class TracedRegions {
 public:
  /// What Backend::begin_region() and end_region() do.
  void begin(std::string_view name);
  void end() noexcept;

  /// Traces `work`, which leaves the device idle. Throws as KernelTrace and `work` do.
  std::vector<ops::KernelRecord> trace(const std::function<void()>& work);
  /// True during a trace.
  const bool& tracing() const { return tracing_; }

 private:
  ops::RegionStack open_;
  std::optional<KernelTrace> trace_;
  bool tracing_ = false;
};

}  // namespace dither::cuda
