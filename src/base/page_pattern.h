#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

namespace dither {

/// A block of memory that can be seen again and again, one copy behind the other: a range of any
/// length takes the memory of one block. For content that need not be anywhere twice, such as the
/// made-up weights of a benchmark.
class PagePattern {
 public:
  /// `bytes`, rounded up to whole pages, are given to `fill` once. Throws kResourceExhausted.
  PagePattern(std::size_t bytes, const std::function<void(std::span<std::byte>)>& fill);
  ~PagePattern();
  PagePattern(const PagePattern&) = delete;
  PagePattern& operator=(const PagePattern&) = delete;

  /// Of one copy.
  std::size_t bytes() const { return bytes_; }

  /// At least `bytes` of addresses, page-aligned and read-only, that hold copy after copy. They
  /// outlive the pattern. Throws kResourceExhausted.
  std::shared_ptr<const std::byte> repeat(std::size_t bytes) const;

 private:
  std::size_t bytes_;
  int fd_;
};

}  // namespace dither
