#pragma once

#include <array>
#include <chrono>
#include <vector>

#include "ops/backend.h"
#include "ops/region.h"
#include "pipelines/pipeline.h"

namespace dither {

using Clock = std::chrono::steady_clock;

/// Milliseconds since `begin`.
inline double elapsed_ms(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

/// The stages of a text-to-image pipeline, in SGLang's order.
enum class Stage : std::uint8_t {
  kInputValidation,
  kTextEncoding,
  kTimestepPreparation,
  kLatentPreparation,
  kDenoising,
  kDecoding,
};

/// SGLang's name of a stage: "DenoisingStage".
const char* stage_name(Stage stage);

/// Adds up how long each stage takes; the device's work counts, not only its submission. To the
/// backend a stage is a region.
class StageClock {
 public:
  explicit StageClock(ops::Backend& backend) : backend_(&backend) {}

  /// work()'s result. Several calls for one stage, one per picture say, add up.
  template <typename Work>
  auto measure(Stage stage, const Work& work) {
    const ops::Region region(*backend_, stage_name(stage));
    const Clock::time_point begin = Clock::now();
    auto result = work();
    backend_->synchronize();
    durations_ms_[static_cast<std::size_t>(stage)] += elapsed_ms(begin);
    return result;
  }

  /// All stages.
  std::vector<StageTime> times() const;

 private:
  static constexpr std::size_t kStages = 6;

  ops::Backend* backend_;
  std::array<double, kStages> durations_ms_{};
};

}  // namespace dither
