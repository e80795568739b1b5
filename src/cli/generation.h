#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/generate_options.h"
#include "cli/output_names.h"
#include "cli/progress.h"
#include "runtime/load.h"

namespace dither::cli {

/// One run of `dither generate`: loads the model, draws every request and writes everything that
/// was asked for, each file complete or not at all. Paths go to stdout, the rest to stderr.
class Generation {
 public:
  /// Checks that everything can be written, before any work: throws like check_writable().
  Generation(const GenerateOptions& options, std::vector<GenerateRequest> requests,
             LoadOptions load, std::optional<PictureParameters> from);

  /// Throws what loading, drawing and writing throw; kCancelled after a signal.
  void run();

 private:
  bool show(std::size_t request, Progress progress);
  void save(std::size_t request, const GenerateResult& result);
  void save_output(const GenerateRequest& request, const GenerateResult& result,
                   const GeneratedOutput& drawn);
  void save_grid();
  PictureParameters parameters(const GenerateRequest& request, const GenerateResult& result,
                               const GeneratedOutput& drawn) const;
  void warn(const std::string& message);
  void announce_precision() const;
  void check_requests() const;
  void announce_video(const ResolvedRequest& request) const;
  void announce(const std::filesystem::path& path) const;

  const GenerateOptions& options_;
  std::vector<GenerateRequest> requests_;
  LoadOptions load_options_;
  std::optional<PictureParameters> from_;
  std::size_t outputs_;  ///< of all requests
  OutputNames names_;
  ProgressDisplay display_;
  LoadedPipeline loaded_;
  std::size_t written_ = 0;
  std::vector<Image> sheet_;        ///< the pictures again, for --grid
  std::set<std::string> warnings_;  ///< said already
};

}  // namespace dither::cli
