#pragma once

#include <filesystem>

namespace dither {

/// A folder that appears under its name only when everything in it is on disk: its files are
/// written to a temporary sibling, commit() flushes that and swaps it in. Destroyed uncommitted, or
/// with its process killed, it leaves what stood under the name as it was; a killed process also
/// leaves the sibling, "<name>.tmp-<pid>-<n>", which nothing reads.
class AtomicFolder {
 public:
  /// Creates the temporary folder, and parents that do not exist. Throws kIo, kInvalidArgument (a
  /// path without a name).
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
};

}  // namespace dither
