#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "ops/backend.h"

namespace dither::cli {

/// A region without the numbers that tell it from its like: "DenoisingStage/step 2/blocks.17" is a
/// "DenoisingStage/step/blocks". "(no region)" for none.
std::string layer_kind(std::string_view region);

/// The kernels by kind of the innermost region that they were launched in, the kind that took
/// longest first: how many regions and kernels, time, share of the whole; where `flops` (matrix
/// products by KernelRecord::region) knows of any, their rate over the time of the kernels, and its
/// share of the rate of a large matrix product.
std::string layer_table(std::span<const ops::KernelRecord> kernels,
                        const std::map<std::string, std::int64_t>& flops,
                        double peak_gflop_per_second);

/// The kernels by kind of region and by name, in both the one that took longest first: calls, time,
/// share of the whole.
std::string kernel_table(std::span<const ops::KernelRecord> kernels);

/// The kernels, in the order in which they began, as a trace in Chrome's JSON format, for
/// chrome://tracing or Perfetto: one track of kernels ("args": {"layer": region}) and one of the
/// regions, nested, each from its first kernel to its last.
std::string chrome_trace(std::span<const ops::KernelRecord> kernels);

}  // namespace dither::cli
