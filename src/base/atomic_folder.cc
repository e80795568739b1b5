#include "base/atomic_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>  // renameat2
#include <cstring>
#include <system_error>

#include "base/error.h"
#include "base/log.h"

namespace dither {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, const char* what, int reason) {
  auto code = ErrorCode::kIo;
  if (reason == ENOSPC || reason == EDQUOT) code = ErrorCode::kResourceExhausted;
  throw Error(code, fmt::format("{}: {}: {}", path.string(), what, std::strerror(reason)));
}

/// Flushes a file, or a folder's list of names.
void flush(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);  // NOLINT(*-vararg)
  if (fd < 0) fail(path, "cannot open", errno);
  const int failed = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  // Some file systems cannot flush a folder, and say so in these ways.
  if (failed != 0 && failed != EINVAL && failed != EROFS) fail(path, "cannot flush", failed);
}

void flush_all(const fs::path& folder) try {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) flush(entry.path());
  flush(folder);
} catch (const fs::filesystem_error& error) {
  fail(folder, "cannot list", error.code().value());
}

bool rename_with(const fs::path& from, const fs::path& to, unsigned flags) {
  return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0;
}

/// The file system cannot exchange two names, or refuse to replace one.
bool unsupported(int reason) { return reason == EINVAL || reason == ENOSYS; }

/// `from` and `to` change places.
void exchange(const fs::path& from, const fs::path& to) {
  if (rename_with(from, to, RENAME_EXCHANGE)) return;
  if (!unsupported(errno)) fail(to, "cannot replace", errno);
  // Two steps: a process killed between them leaves the old folder under its new name.
  const fs::path aside = from.string() + ".old";
  if (::rename(to.c_str(), aside.c_str()) != 0) fail(to, "cannot move aside", errno);
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int reason = errno;
    if (::rename(aside.c_str(), to.c_str()) != 0) fail(aside, "cannot move back", errno);
    fail(to, "cannot replace", reason);
  }
  if (::rename(aside.c_str(), from.c_str()) != 0) fail(aside, "cannot rename", errno);
}

}  // namespace

AtomicFolder::AtomicFolder(const fs::path& path) {
  // A trailing slash would leave the temporary inside the folder itself.
  path_ = (path.has_filename() ? path : path.parent_path()).lexically_normal();
  const fs::path name = path_.filename();
  if (name.empty() || name == "." || name == "..") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("'{}' cannot name a new folder", path.string()));
  }
  std::error_code failed;
  if (path_.has_parent_path()) fs::create_directories(path_.parent_path(), failed);
  static std::atomic<unsigned> serial = 0;
  do {
    temporary_ = fmt::format("{}.tmp-{}-{}", path_.string(), ::getpid(), serial++);
    failed.clear();
  } while (!fs::create_directory(temporary_, failed) && !failed);
  if (failed) fail(temporary_, "cannot create", failed.value());
}

AtomicFolder::~AtomicFolder() {
  if (temporary_.empty()) return;
  std::error_code failed;
  fs::remove_all(temporary_, failed);
  if (failed) log::warn("{}: cannot remove: {}", temporary_.string(), failed.message());
}

void AtomicFolder::commit(Existing existing) {
  flush_all(temporary_);
  if (existing == Existing::kReplace && fs::exists(path_)) {
    exchange(temporary_, path_);  // the temporary is the old folder now; the destructor deletes it
  } else if (rename_with(temporary_, path_, RENAME_NOREPLACE) ||
             (unsupported(errno) && ::rename(temporary_.c_str(), path_.c_str()) == 0)) {
    temporary_.clear();
  } else if (errno == EEXIST || errno == ENOTEMPTY) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: already exists", path_.string()));
  } else {
    fail(path_, "cannot rename to", errno);
  }
  flush(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

}  // namespace dither
