#pragma once

#include <vector>

#include "ops/backend.h"

namespace dither::cuda {

/// Records every kernel of this process between construction and stop(), graphs' included, through
/// CUPTI's activity records. CUPTI is loaded when the first trace begins, so that nobody else needs
/// it. One trace at a time in a process: CUPTI's callbacks are global.
class KernelTrace {
 public:
  /// Throws kUnsupported when libcupti is not to be found, kDevice when it fails, kInvalidArgument
  /// when a trace is running.
  KernelTrace();
  ~KernelTrace();
  KernelTrace(const KernelTrace&) = delete;
  KernelTrace& operator=(const KernelTrace&) = delete;

  /// Ends the trace. The device is idle by then. Kernels in the order in which they began.
  std::vector<ops::KernelRecord> stop();
};

}  // namespace dither::cuda
