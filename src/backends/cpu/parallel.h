#pragma once

#include <cstdint>

namespace dither::cpu {

/// body(i) for i in [0, count), split into one contiguous range per thread of the OpenMP pool that
/// oneDNN uses too (docs/decisions/0003). body must not throw.
template <typename Body>
void parallel_for(int threads, std::int64_t count, const Body& body) {
  if (threads <= 1 || count <= 1) {
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

/// body(begin, end) on ranges that cover [0, count), at most one per thread and none shorter than
/// `grain`, so that small work does not pay for waking a thread. body must not throw.
template <typename Body>
void parallel_ranges(int threads, std::int64_t count, std::int64_t grain, const Body& body) {
  const std::int64_t useful = grain > 0 ? count / grain : count;
  const std::int64_t parts = useful < threads ? (useful < 1 ? 1 : useful) : threads;
  parallel_for(static_cast<int>(parts), parts,
               [&](std::int64_t part) { body(count * part / parts, count * (part + 1) / parts); });
}

}  // namespace dither::cpu
