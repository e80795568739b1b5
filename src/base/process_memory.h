#pragma once

#include <cstdint>

namespace dither {

/// Physical memory that this process occupies.
struct ProcessMemory {
  std::uint64_t resident_bytes = 0;
  std::uint64_t peak_resident_bytes = 0;  ///< since the process started
};

/// Read from /proc/self/status (VmRSS, VmHWM); zeros where the system has no such file.
ProcessMemory process_memory();

/// Makes the kernel count the peak anew (proc(5), clear_refs). Without that right nothing happens,
/// and the peak stays the process's.
void reset_peak_memory();

}  // namespace dither
