#include "base/page_pattern.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace dither {
namespace {

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

[[noreturn]] void throw_errno(const char* what, std::size_t bytes) {
  throw Error(ErrorCode::kResourceExhausted,
              fmt::format("{} of {} bytes: {}", what, bytes, std::strerror(errno)));
}

/// Unmaps what it is given when nobody looks at it any more.
std::shared_ptr<std::byte> own_mapping(void* address, std::size_t bytes) {
  return {static_cast<std::byte*>(address), [bytes](std::byte* begin) { ::munmap(begin, bytes); }};
}

}  // namespace

PagePattern::PagePattern(std::size_t bytes, const std::function<void(std::span<std::byte>)>& fill)
    : bytes_(round_up(bytes, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)))),
      fd_(::memfd_create("dither-pattern", MFD_CLOEXEC)) {
  if (fd_ < 0) throw_errno("cannot make a block", bytes_);
  try {
    // ftruncate() would promise pages that are only missed at the first write, by a SIGBUS.
    if (const int failed = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes_)); failed != 0) {
      errno = failed;
      throw_errno("cannot fill a block", bytes_);
    }
    void* const address = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (address == MAP_FAILED) throw_errno("cannot map a block", bytes_);
    const auto mapping = own_mapping(address, bytes_);
    fill({mapping.get(), bytes_});
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

PagePattern::~PagePattern() { ::close(fd_); }

std::shared_ptr<const std::byte> PagePattern::repeat(std::size_t bytes) const {
  const std::size_t total = round_up(bytes, bytes_);
  if (total == 0) return nullptr;
  void* const address = ::mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) throw_errno("cannot reserve addresses", total);
  auto range = own_mapping(address, total);
  for (std::size_t offset = 0; offset < total; offset += bytes_) {
    const void* const copy =
        ::mmap(range.get() + offset, bytes_, PROT_READ, MAP_SHARED | MAP_FIXED, fd_, 0);
    if (copy == MAP_FAILED) throw_errno("cannot map a block", bytes_);
  }
  return range;
}

}  // namespace dither
