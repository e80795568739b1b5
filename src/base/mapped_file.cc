#include "base/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace dither {
namespace {

[[noreturn]] void throw_errno(const std::filesystem::path& path, const char* what) {
  const int reason = errno;
  const auto code = reason == ENOENT || reason == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo;
  throw Error(code, fmt::format("{}: {}: {}", path.string(), what, std::strerror(reason)));
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  // Without O_NONBLOCK, opening a pipe would wait for its writer instead of refusing it.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // NOLINT(*-vararg)
  if (fd < 0) throw_errno(path, "cannot open");
  const std::shared_ptr<MappedFile> file(new MappedFile(path, fd));
  struct stat status{};
  if (::fstat(fd, &status) != 0) throw_errno(path, "cannot stat");
  if (!S_ISREG(status.st_mode)) {
    throw Error(ErrorCode::kIo, fmt::format("{}: not a regular file", path.string()));
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > 0) {  // mmap refuses empty ranges; an empty file is simply an empty span
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) throw_errno(path, "cannot map");
    file->bytes_ = {static_cast<const std::byte*>(address), size};
  }
  return file;
}

MappedFile::MappedFile(std::filesystem::path path, int fd) : path_(std::move(path)), fd_(fd) {}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  ::close(fd_);
}

void MappedFile::read(std::span<const std::byte> range, std::byte* to) const {
  auto offset = static_cast<off_t>(range.data() - bytes_.data());
  for (std::size_t left = range.size(); left > 0;) {
    const ssize_t count = ::pread(fd_, to, left, offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_errno(path_, "cannot read");
    if (count == 0) {
      throw Error(ErrorCode::kIo, fmt::format("{}: ends at byte {}, it had {} when it was opened",
                                              path_.string(), offset, bytes_.size()));
    }
    to += count;
    offset += count;
    left -= static_cast<std::size_t>(count);
  }
}

void MappedFile::release(std::span<const std::byte> range) const noexcept {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(range.data());
  // Only pages that lie wholly inside: the others hold a neighbour's bytes.
  const std::size_t skipped = (page - begin % page) % page;
  if (range.size() < skipped + page) return;
  auto* const first = const_cast<std::byte*>(range.data()) + skipped;
  ::madvise(first, (range.size() - skipped) / page * page, MADV_DONTNEED);
}

}  // namespace dither
