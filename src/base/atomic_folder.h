#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace dither {

/// Throws kResourceExhausted when the file system of `path`, which need not exist, has fewer bytes
/// free: a disk that fills up after an hour is found too late.
void check_space(const std::filesystem::path& path, std::uint64_t bytes);

/// `path` and those of its parents that do not exist, the innermost first.
std::vector<std::filesystem::path> missing_folders(const std::filesystem::path& path);

/// A folder that appears under its name only when everything in it is on disk: its files are
/// written to a temporary sibling, commit() flushes that and swaps it in. Destroyed uncommitted, or
/// with its process killed, it leaves what stood under the name as it was; a killed process also
/// leaves the sibling, "<name>.tmp-<pid>-<n>", which nothing reads and the next writer of the same
/// name deletes. A living writer's is locked (flock) and left alone.
class AtomicFolder {
 public:
  /// Creates the temporary folder, and parents that do not exist; those go again if it is not
  /// committed. Throws kIo, kInvalidArgument (a path without a name).
  explicit AtomicFolder(const std::filesystem::path& path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Where to write.
  const std::filesystem::path& temporary() const { return temporary_; }

  enum class Existing { kKeep, kReplace };
  /// Flushes all files and folders and gives the folder its name. A folder that has the name
  /// already is an error (kKeep: kInvalidArgument) or changes places with the new one in one step
  /// of the file system and is deleted (kReplace). Call once.
  void commit(Existing existing);

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::vector<std::filesystem::path> created_;  ///< parents
  int lock_ = -1;                               ///< file descriptor of temporary_
};

}  // namespace dither
