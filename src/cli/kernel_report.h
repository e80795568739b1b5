#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "ops/backend.h"
#include "runtime/work_counter.h"

namespace dither::cli {

/// A region without the numbers that tell it from its like: "DenoisingStage/step 2/blocks.17" is a
/// "DenoisingStage/step/blocks". "(no region)" for none.
std::string layer_kind(std::string_view region);

/// What the rates of kernels are held against, measured on the same device.
struct Peaks {
  double gflop_per_second = 0;  ///< of a large matrix product
  double gb_per_second = 0;     ///< of a large copy, read and written
};

/// The work of operations by KernelRecord::region: WorkCounter::traced().
using WorkOfRegions = std::map<std::string, Work>;

/// The kernels by kind of layer, the region that their operation was called in, the kind that took
/// longest first: how many layers and kernels, time, share of the whole; the rate of their matrix
/// products over the time of the kernels, and its share of the peak.
std::string layer_table(std::span<const ops::KernelRecord> kernels, const WorkOfRegions& work,
                        const Peaks& peaks);

/// The kernels by kind of layer and operation and by name, in both the one that took longest first:
/// calls, time, share of the whole; of an operation its matrix products' rate and the rate of
/// bytes, every operand read and every result written once, with their shares of the peaks.
std::string kernel_table(std::span<const ops::KernelRecord> kernels, const WorkOfRegions& work,
                         const Peaks& peaks);

/// The kernels, in the order in which they began, as a trace in Chrome's JSON format, for
/// chrome://tracing or Perfetto: one track of kernels ("args": {"layer": region}) and one of the
/// regions, nested, each from its first kernel to its last.
std::string chrome_trace(std::span<const ops::KernelRecord> kernels);

}  // namespace dither::cli
