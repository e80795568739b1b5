#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "ops/backend.h"
#include "ops/region.h"
#include "pipelines/pipeline.h"
#include "pipelines/stage.h"

namespace dither {

using Clock = std::chrono::steady_clock;

/// Milliseconds since `begin`.
inline double elapsed_ms(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

/// Adds up how long each stage takes; the device's work counts, not only its submission. To the
/// backend a stage is a region.
class StageClock {
 public:
  explicit StageClock(ops::Backend& backend) : backend_(&backend) {}

  /// work()'s result. Several calls for one stage, one per picture say, add up.
  template <typename Work>
  auto measure(Stage stage, const Work& work) {
    const auto index = static_cast<std::size_t>(stage);
    const ops::Region region(*backend_, stage_name(stage));
    backend_->reset_peak_memory();
    const Clock::time_point begin = Clock::now();
    auto result = work();
    backend_->synchronize();
    durations_ms_[index] += elapsed_ms(begin);
    peaks_[index] = std::max<std::uint64_t>(peaks_[index], backend_->memory().peak_bytes);
    return result;
  }

  /// All stages.
  std::vector<StageTime> times() const;

 private:
  static constexpr std::size_t kStages = 6;

  ops::Backend* backend_;
  std::array<double, kStages> durations_ms_{};
  std::array<std::uint64_t, kStages> peaks_{};
};

}  // namespace dither
