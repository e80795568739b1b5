#include "base/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/mapped_file.h"

namespace dither {

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  // Renaming over a device or a pipe would replace it, not write to it.
  struct stat status{};
  if (::stat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    throw Error(ErrorCode::kIo, fmt::format("{}: not a regular file", path_.string()));
  }
  // Every writer of one path has a temporary of its own, so two cannot mix their bytes. The kernel
  // applies the user's umask, which mkstemp's private files would not follow.
  static std::atomic<unsigned> serial = 0;
  do {
    temporary_ = fmt::format("{}.tmp-{}-{}", path_.string(), ::getpid(), serial++);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,  // NOLINT(*-vararg)
                 0666);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) fail("cannot create");
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("cannot write");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) fail("cannot flush");
  const int fd = fd_;
  fd_ = -1;
  if (::close(fd) != 0) fail("cannot close");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot rename to");
  temporary_.clear();
}

void AtomicFile::fail(const char* what) const {
  const int reason = errno;
  auto code = ErrorCode::kIo;
  if (reason == ENOENT || reason == ENOTDIR) code = ErrorCode::kNotFound;
  if (reason == ENOSPC || reason == EDQUOT || reason == EFBIG) code = ErrorCode::kResourceExhausted;
  throw Error(code, fmt::format("{}: {}: {}", path_.string(), what, std::strerror(reason)));
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

std::string read_text_file(const std::filesystem::path& path, std::size_t max_bytes) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  if (bytes.size() > max_bytes) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: {} bytes, the limit for this file is {}",
                                                  path.string(), bytes.size(), max_bytes));
  }
  if (bytes.empty()) return {};
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace dither
