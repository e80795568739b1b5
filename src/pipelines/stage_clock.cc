#include "pipelines/stage_clock.h"

namespace dither {

const char* stage_name(Stage stage) {
  constexpr std::array kNames = {
      "InputValidationStage",   "TextEncodingStage", "TimestepPreparationStage",
      "LatentPreparationStage", "DenoisingStage",    "DecodingStage",
  };
  return kNames.at(static_cast<std::size_t>(stage));
}

std::vector<StageTime> StageClock::times() const {
  std::vector<StageTime> times;
  for (std::size_t i = 0; i < kStages; ++i)
    times.push_back({stage_name(static_cast<Stage>(i)), durations_ms_[i]});
  return times;
}

}  // namespace dither
