#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/registry.h"

namespace dither::cli {

/// The prompt as part of a file name: letters, digits and anything beyond ASCII stay, every run of
/// other characters becomes one '_', at most 60 bytes. "A red apple!" -> "a_red_apple".
std::string slug(std::string_view prompt);

/// `path` itself for a single file, else "name-<index>.ext" with as many digits as the last index.
std::filesystem::path numbered(const std::filesystem::path& path, std::size_t index,
                               std::size_t count);

/// Throws unless a file could be written as `path` now: kNotFound (no such folder), kIo (no
/// permission, a folder, not a regular file), kResourceExhausted (full disk). Changes nothing.
void check_writable(const std::filesystem::path& path);

/// Where pictures or videos go. A name that was asked for is used, and an existing file replaced. A
/// name that comes from the prompt never replaces anything: "a_red_apple-seed0.png", then
/// "a_red_apple-seed0-2.png".
class OutputNames {
 public:
  struct Options {
    std::optional<std::string> output_path = {};       ///< folder, created when missing
    std::optional<std::string> output_file_name = {};  ///< in that folder
    std::optional<std::string> output = {};            ///< both in one
  };
  /// `count`: how many there will be. A picture's name ends in .png, a video's in .mp4 or .webp, or
  /// in '/', which makes it a folder of frames; an ending that is missing is added. Throws
  /// kInvalidArgument for contradicting options and for other endings.
  OutputNames(const Options& options, std::size_t count, OutputKind kind = OutputKind::kPicture);
  /// Removes folders that prepare() created and nothing was written to.
  ~OutputNames();
  OutputNames(const OutputNames&) = delete;
  OutputNames& operator=(const OutputNames&) = delete;

  /// Creates the folder and checks that the outputs can be written; before any work. Throws like
  /// check_writable().
  void prepare();

  /// A name as next() gives them.
  std::filesystem::path example() const;
  /// The name of the next output; of a folder of frames without a final '/'.
  std::filesystem::path next(std::string_view prompt, std::uint64_t seed);
  /// The name of the sheet that shows all pictures: "a_red_apple-grid.png".
  std::filesystem::path grid(std::string_view first_prompt) const;

 private:
  std::filesystem::path folder_;
  std::optional<std::filesystem::path> file_;  ///< asked for; the names derive from it
  bool create_folder_ = false;
  std::vector<std::filesystem::path> created_;  ///< the innermost first
  std::size_t count_;
  const char* ending_;             ///< where none was asked for
  bool frames_in_folder_ = false;  ///< file_ is a folder
  std::size_t next_ = 0;
};

}  // namespace dither::cli
