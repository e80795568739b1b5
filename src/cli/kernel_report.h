#pragma once

#include <span>
#include <string>

#include "ops/backend.h"

namespace dither::cli {

/// The kernels by name, the one that took longest first: calls, time, share of the whole.
std::string kernel_table(std::span<const ops::KernelRecord> kernels);

/// The same as a trace in Chrome's JSON format, for chrome://tracing or Perfetto.
std::string chrome_trace(std::span<const ops::KernelRecord> kernels);

}  // namespace dither::cli
