#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace dither {

/// A file that appears under its name only when it is complete: bytes go to a temporary sibling,
/// commit() flushes it to disk and renames it. Destroyed uncommitted, it removes the temporary
/// and an existing file under the final name keeps its content.
class AtomicFile {
 public:
  /// Creates the temporary file. Throws kNotFound (no such folder) or kIo (no permission, `path`
  /// is a folder or a device, ...).
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends. Throws kResourceExhausted on a full disk, kIo on any other failure.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);

  /// Flushes, closes and renames. Throws like write(). Call once.
  void commit();

  const std::filesystem::path& path() const { return path_; }

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
};

/// Writes a whole file atomically.
void write_file(const std::filesystem::path& path, std::string_view content);

/// Reads a whole text file; throws kNotFound, kIo, or kDataLoss when it exceeds max_bytes.
std::string read_text_file(const std::filesystem::path& path, std::size_t max_bytes);

}  // namespace dither
