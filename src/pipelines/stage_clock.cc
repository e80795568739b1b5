#include "pipelines/stage_clock.h"

namespace dither {

std::vector<StageTime> StageClock::times() const {
  constexpr std::array<const char*, kStages> kNames = {
      "InputValidationStage",   "TextEncodingStage", "TimestepPreparationStage",
      "LatentPreparationStage", "DenoisingStage",    "DecodingStage",
  };
  std::vector<StageTime> times;
  for (std::size_t i = 0; i < kStages; ++i) {
    times.push_back({kNames[i], durations_ms_[i], peaks_[i]});
  }
  return times;
}

}  // namespace dither
