#pragma once

#include <string>
#include <vector>

#include "ops/backend.h"

namespace dither::cuda {

/// Records every kernel of this process between construction and stop(), graphs' included, through
/// CUPTI's activity records, and the region in which the thread that launched it was: CUPTI notes a
/// region's number with every call of the CUDA API ("external correlation"), and the call's number
/// with the kernel. CUPTI is loaded when the first trace begins, so that nobody else needs it. One
/// trace at a time in a process: CUPTI's callbacks are global.
class KernelTrace {
 public:
  /// Throws kUnsupported when libcupti is not to be found, kDevice when it fails, kInvalidArgument
  /// when a trace is running.
  KernelTrace();
  ~KernelTrace();
  KernelTrace(const KernelTrace&) = delete;
  KernelTrace& operator=(const KernelTrace&) = delete;

  /// The calling thread enters a region, `path` as in KernelRecord::region, or leaves the one that
  /// it entered last.
  void enter_region(const std::string& path);
  static void leave_region() noexcept;

  /// Ends the trace. The device is idle by then. Kernels in the order in which they began. Throws
  /// kDevice when CUPTI failed, also earlier, at a region.
  std::vector<ops::KernelRecord> stop();

 private:
  std::vector<std::string> regions_;  ///< by CUPTI's external ids
  bool regions_failed_ = false;
};

}  // namespace dither::cuda
