#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "report/comparison.h"
#include "runtime/load.h"

namespace dither {

struct CompareOptions {
  LoadOptions reference = {};
  LoadOptions candidate = {};
  GenerateRequest request = {};  ///< one picture
  int warmup_runs = 0;
  int measure_runs = 1;
  int step_index = -1;  ///< of the metrics that stand for all; negative: from the end
  /// At which to compare the output of single layers; negative: from the end; empty: none.
  std::vector<int> layer_steps = {0, -1};
};

/// Draws with the reference, then with the candidate, each with the memory to itself, and compares
/// latents, pictures and layers. For the layers the reference is loaded a second time.
/// Throws kInvalidArgument (a step that there is not, shapes that differ), and what loading and
/// drawing throw.
Comparison compare_models(const CompareOptions& options, const ProgressCallback& progress);

/// Compares what save_trajectory() wrote, without running anything. Throws kInvalidArgument, naming
/// both files, when the shapes differ.
Comparison compare_trajectory_files(const std::filesystem::path& reference,
                                    const std::filesystem::path& candidate, int step_index);

/// Compares two videos (open_video()) frame by frame, in the memory of a few. Throws
/// kInvalidArgument, naming both files, when their frames differ in number or size, and like
/// open_video().
Comparison compare_video_files(const std::filesystem::path& reference,
                               const std::filesystem::path& candidate);

}  // namespace dither
