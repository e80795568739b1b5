#include "base/atomic_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
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

/// "<name>.tmp-<pid>-<n>": what a writer of `name` writes to.
bool is_temporary_of(const std::string& name, const std::string& candidate) {
  const std::string prefix = name + ".tmp-";
  if (!candidate.starts_with(prefix)) return false;
  const std::string_view rest = std::string_view(candidate).substr(prefix.size());
  const std::size_t dash = rest.find('-');
  const auto is_number = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  };
  return dash != std::string_view::npos && is_number(rest.substr(0, dash)) &&
         is_number(rest.substr(dash + 1));
}

/// A descriptor of `folder` that holds its lock; -1 when somebody else holds it, or nobody can.
int try_lock(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);  // NOLINT
  if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  if (fd >= 0) ::close(fd);
  return -1;
}

/// Deletes what killed writers of `path` left behind. A failure is not ours to report.
void remove_leftovers(const fs::path& path) {
  std::error_code failed;
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::vector<fs::path> leftovers;
  for (auto entry = fs::directory_iterator(parent, failed);
       !failed && entry != fs::directory_iterator(); entry.increment(failed)) {
    if (is_temporary_of(path.filename(), entry->path().filename())) {
      leftovers.push_back(entry->path());
    }
  }
  for (const fs::path& leftover : leftovers) {
    const int lock = try_lock(leftover);
    if (lock < 0) continue;
    fs::remove_all(leftover, failed);
    ::close(lock);
    if (!failed) log::debug("{}: deleted; a killed run had left it", leftover.string());
  }
}

}  // namespace

void check_space(const fs::path& path, std::uint64_t bytes) {
  std::error_code failed;
  fs::path parent = fs::absolute(path);
  while (!fs::exists(parent, failed) && parent != parent.parent_path()) {
    parent = parent.parent_path();
  }
  const fs::space_info space = fs::space(parent, failed);
  if (failed || space.available >= bytes) return;
  throw Error(ErrorCode::kResourceExhausted,
              fmt::format("{}: the result takes {} bytes, {} are free", parent.string(), bytes,
                          space.available));
}

std::vector<fs::path> missing_folders(const fs::path& path) {
  std::vector<fs::path> missing;
  std::error_code failed;
  fs::path folder = path.has_filename() ? path : path.parent_path();
  while (!folder.empty() && !fs::exists(folder, failed) && !failed) {
    missing.push_back(folder);
    folder = folder.parent_path();
  }
  return missing;
}

AtomicFolder::AtomicFolder(const fs::path& path) {
  // A trailing slash would leave the temporary inside the folder itself.
  path_ = (path.has_filename() ? path : path.parent_path()).lexically_normal();
  const fs::path name = path_.filename();
  if (name.empty() || name == "." || name == "..") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("'{}' cannot name a new folder", path.string()));
  }
  std::error_code failed;
  if (path_.has_parent_path()) {
    created_ = missing_folders(path_.parent_path());
    fs::create_directories(path_.parent_path(), failed);
  }
  remove_leftovers(path_);
  static std::atomic<unsigned> serial = 0;
  do {
    temporary_ = fmt::format("{}.tmp-{}-{}", path_.string(), ::getpid(), serial++);
    failed.clear();
  } while (!fs::create_directory(temporary_, failed) && !failed);
  if (failed) fail(temporary_, "cannot create", failed.value());
  lock_ = try_lock(temporary_);
}

AtomicFolder::~AtomicFolder() {
  std::error_code failed;
  if (!temporary_.empty()) {
    fs::remove_all(temporary_, failed);
    if (failed) log::warn("{}: cannot remove: {}", temporary_.string(), failed.message());
  }
  if (lock_ >= 0) ::close(lock_);
  for (const fs::path& parent : created_) fs::remove(parent, failed);  // fails unless it is empty
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
