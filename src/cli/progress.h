#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "pipelines/pipeline.h"

namespace dither::cli {

/// "950 ms", "2.5 s", "3 min 20 s"
std::string format_duration(double ms);

/// "25.7 MB", powers of 1000 as file managers count.
std::string format_bytes(std::uint64_t bytes);

/// One line about a running request:
/// "[########............]  8/20  102 ms/step, 1.2 s left", and "2/3 " in front when there are more
/// pictures. `average_step_ms` predicts the remaining steps of all pictures.
std::string format_progress(const Progress& progress, double average_step_ms, bool bar);

/// Shows denoising steps on `stream`: a bar that is redrawn in place on a terminal, elsewhere a
/// plain line per picture and, when pictures take long, every ten seconds.
class ProgressDisplay {
 public:
  ProgressDisplay(std::FILE* stream, bool terminal) : stream_(stream), terminal_(terminal) {}
  ~ProgressDisplay() { clear(); }
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  void update(const Progress& progress);
  /// Removes the bar, so that other output starts on an empty line.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  std::FILE* stream_;
  bool terminal_;
  bool drawn_ = false;
  double total_ms_ = 0;
  int steps_ = 0;
  Clock::time_point last_line_ = Clock::now();
};

}  // namespace dither::cli
