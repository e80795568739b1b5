#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace dither {

/// A whole file mapped read-only and shared. Views stay valid as long as one shared_ptr lives.
/// A file that shrinks while it is mapped is outside our control (the kernel raises SIGBUS), so
/// writers in this code base replace files by rename and never truncate them in place.
class MappedFile {
 public:
  /// Throws kNotFound, or kIo with the system's reason (a directory, no permission).
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  /// Copies a part of bytes() by reading the file, which costs less than mapping pages that are
  /// used once, and what cannot be read is an error, not a signal. Thread-safe. Throws kIo.
  void read(std::span<const std::byte> range, std::byte* to) const;

  /// Tells the kernel that these bytes were consumed (packed elsewhere): their pages leave our
  /// resident set and come back from the page cache if somebody reads them again.
  void release(std::span<const std::byte> range) const noexcept;

 private:
  MappedFile(std::filesystem::path path, int fd);

  std::filesystem::path path_;
  int fd_;
  std::span<const std::byte> bytes_;
};

}  // namespace dither
