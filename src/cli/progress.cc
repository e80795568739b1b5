#include "cli/progress.h"

#include <fmt/format.h>

#include <cmath>

namespace dither::cli {

std::string format_duration(double ms) {
  if (ms < 999.5) return fmt::format("{:.0f} ms", ms);
  const double seconds = ms / 1000;
  if (seconds < 99.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<long>(std::lround(seconds));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string format_bytes(std::uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes < 1000) return fmt::format("{} B", bytes);
  if (value < 1e6) return fmt::format("{:.1f} kB", value * 1e-3);
  if (value < 1e9) return fmt::format("{:.1f} MB", value * 1e-6);
  return fmt::format("{:.2f} GB", value * 1e-9);
}

std::string format_progress(const Progress& progress, double average_step_ms, bool bar) {
  constexpr int kBarWidth = 20;
  const int filled = progress.steps > 0 ? kBarWidth * progress.step / progress.steps : 0;
  const auto width = static_cast<int>(fmt::format("{}", progress.steps).size());
  const int left = (progress.images - progress.image) * progress.steps - progress.step;
  return fmt::format(
      "{}{}{:>{}}/{}  {}/step, {} left",
      progress.images > 1 ? fmt::format("{}/{} ", progress.image + 1, progress.images) : "",
      bar ? fmt::format("[{:.<{}}]  ", std::string(std::size_t(filled), '#'), kBarWidth) : "step ",
      progress.step, width, progress.steps, format_duration(progress.step_ms),
      format_duration(left * average_step_ms));
}

void ProgressDisplay::update(const Progress& progress) {
  total_ms_ += progress.step_ms;
  ++steps_;
  const std::string text = format_progress(progress, total_ms_ / steps_, terminal_);
  if (terminal_) {
    fmt::print(stream_, "\r{}\x1b[K", text);
    std::fflush(stream_);
    drawn_ = true;
    return;
  }
  const Clock::time_point now = Clock::now();
  if (progress.step == progress.steps || now - last_line_ > std::chrono::seconds(10)) {
    fmt::print(stream_, "{}\n", text);
    last_line_ = now;
  }
}

void ProgressDisplay::clear() {
  if (drawn_) fmt::print(stream_, "\r\x1b[K");
  std::fflush(stream_);
  drawn_ = false;
}

}  // namespace dither::cli
