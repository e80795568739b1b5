#include "pipelines/stage_clock.h"

namespace dither {

std::vector<StageTime> StageClock::times() const {
  std::vector<StageTime> times;
  for (std::size_t i = 0; i < kStages; ++i) {
    times.push_back({stage_name(static_cast<Stage>(i)), durations_ms_[i], peaks_[i]});
  }
  return times;
}

}  // namespace dither
