#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace dither::cli {

/// "[########............]  9.60 GB of 24.00 GB, 410.0 MB/s, 35.1 s left"
std::string format_byte_progress(std::uint64_t done, std::uint64_t total, double elapsed_ms,
                                 bool bar);

/// How far a long copy is, on `stream`: a bar that is redrawn in place on a terminal, elsewhere a
/// plain line every ten seconds.
class ByteProgress {
 public:
  ByteProgress(std::FILE* stream, bool terminal) : stream_(stream), terminal_(terminal) {}
  ~ByteProgress() { clear(); }
  ByteProgress(const ByteProgress&) = delete;
  ByteProgress& operator=(const ByteProgress&) = delete;

  void update(std::uint64_t done, std::uint64_t total);
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  std::FILE* stream_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
};

}  // namespace dither::cli
