#include "cli/byte_progress.h"

#include <fmt/format.h>

#include "cli/progress.h"

namespace dither::cli {

std::string format_byte_progress(std::uint64_t done, std::uint64_t total, double elapsed_ms,
                                 bool bar) {
  constexpr int kBarWidth = 20;
  const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
  const std::string filled(static_cast<std::size_t>(kBarWidth * part), '#');
  std::string text =
      fmt::format("{}{} of {}", bar ? fmt::format("[{:.<{}}]  ", filled, kBarWidth) : "",
                  format_bytes(done), format_bytes(total));
  if (done > 0 && elapsed_ms > 0) {
    const double per_second = static_cast<double>(done) / elapsed_ms * 1000;
    text += fmt::format(", {}/s, {} left", format_bytes(static_cast<std::uint64_t>(per_second)),
                        format_duration(elapsed_ms * (1 - part) / part));
  }
  return text;
}

void ByteProgress::update(std::uint64_t done, std::uint64_t total) {
  const Clock::time_point now = Clock::now();
  const auto interval = terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(10);
  if (now - last_ < interval) return;
  last_ = now;
  const double elapsed_ms = std::chrono::duration<double, std::milli>(now - start_).count();
  const std::string text = format_byte_progress(done, total, elapsed_ms, terminal_);
  fmt::print(stream_, "{}{}{}", terminal_ ? "\r" : "", text, terminal_ ? "\x1b[K" : "\n");
  std::fflush(stream_);
  drawn_ = terminal_;
}

void ByteProgress::clear() {
  if (drawn_) fmt::print(stream_, "\r\x1b[K");
  std::fflush(stream_);
  drawn_ = false;
}

}  // namespace dither::cli
