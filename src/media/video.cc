#include "media/video.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>

#include "base/error.h"
#include "base/mapped_file.h"
#include "media/video_formats.h"

namespace dither {
namespace fs = std::filesystem;
namespace {

using std::string_view_literals::operator""sv;

enum class Container : std::uint8_t { kMp4, kWebp, kOther };

/// By the first 12 bytes.
Container container_of(std::string_view file) {
  if (file.size() >= 8 && file.substr(4, 4) == "ftyp") return Container::kMp4;
  if (file.size() >= 12 && file.starts_with("RIFF") && file.substr(8, 4) == "WEBP") {
    return Container::kWebp;
  }
  return Container::kOther;
}

bool is_keyword(const std::string& keyword) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  };
  return !keyword.empty() && keyword.size() < 80 && std::ranges::all_of(keyword, plain);
}

constexpr int kLeastH264Side = 16;
constexpr int kMostH264Pixels = 4096 * 2304;  // OpenH264 2.3.1's own limit, of level 5.2

bool is_mp4(const fs::path& path) { return path.extension() == ".mp4"; }
bool is_webp(const fs::path& path) { return path.extension() == ".webp"; }

void check_settings(const fs::path& path, const VideoSettings& settings) {
  if (settings.width < 1 || settings.height < 1 || settings.width > kMaxVideoExtent ||
      settings.height > kMaxVideoExtent || settings.fps < 1 || settings.fps > kMaxVideoFps) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a video of {}x{} at {} frames a second; at most {}x{} at {}",
                            path.string(), settings.width, settings.height, settings.fps,
                            kMaxVideoExtent, kMaxVideoExtent, kMaxVideoFps));
  }
  for (const auto& [keyword, text] : settings.text) {
    if (!is_keyword(keyword) || text.find('\0') != std::string::npos) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: a video cannot carry a text of {} bytes under '{}'",
                              path.string(), text.size(), keyword));
    }
  }
}

/// Keeps the file mapped while it is read.
class MappedVideo final : public VideoReader {
 public:
  explicit MappedVideo(const fs::path& path)
      : file_(MappedFile::open(path)), reader_(open_video(file_->bytes(), path.string())) {}
  const VideoInfo& info() const override { return reader_->info(); }
  std::optional<Image> next() override { return reader_->next(); }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::unique_ptr<VideoReader> reader_;
};

}  // namespace

void check_video(const fs::path& path, const VideoSettings& settings) {
  check_settings(path, settings);
  const auto& [width, height, fps, text] = settings;
  if (!is_mp4(path) && !is_webp(path) && path.has_extension()) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: videos are written as .mp4, .webp or, without an ending, as a "
                            "folder of PNG frames",
                            path.string()));
  }
  if (is_mp4(path) &&
      (width % 2 != 0 || height % 2 != 0 || std::min(width, height) < kLeastH264Side ||
       width * height > kMostH264Pixels)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: H.264 takes even sides of at least {} and {} pixels in all, not "
                            "{}x{}",
                            path.string(), kLeastH264Side, kMostH264Pixels, width, height));
  }
}

void VideoWriter::add(const Image& frame) {
  if (frame.width != settings_.width || frame.height != settings_.height || frame.channels != 3 ||
      frame.pixels.size() != frame.row_bytes() * static_cast<std::size_t>(frame.height)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a frame of {}x{} pixels of {} channels in an RGB video of {}x{}",
                            path_.string(), frame.width, frame.height, frame.channels,
                            settings_.width, settings_.height));
  }
  write(frame);
  ++frames_;
}

void VideoWriter::finish() {
  if (frames_ == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a video without frames", path_.string()));
  }
  commit();
}

std::unique_ptr<VideoWriter> create_video_writer(const fs::path& path,
                                                 const VideoSettings& settings) {
  check_video(path, settings);
  if (is_mp4(path)) return create_mp4_writer(path, settings);
  if (is_webp(path)) return create_webp_writer(path, settings);
  return create_frames_writer(path, settings);
}

std::unique_ptr<VideoReader> open_video(std::span<const std::byte> file, std::string_view name) {
  switch (container_of({reinterpret_cast<const char*>(file.data()), file.size()})) {
    case Container::kMp4:
      return open_mp4(file, name);
    case Container::kWebp:
      return open_webp(file, name);
    case Container::kOther:
      break;
  }
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("{}: not a video: MP4, animated WebP and folders of PNG frames are read", name));
}

std::unique_ptr<VideoReader> open_video(const fs::path& path) {
  if (fs::is_directory(path)) return open_frames(path);
  return std::make_unique<MappedVideo>(path);
}

bool is_video(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return fs::exists(path / fmt::format(kFrameFormat, 0));
  std::array<char, 12> start{};
  std::ifstream file(path, std::ios::binary);
  file.read(start.data(), start.size());
  return container_of({start.data(), static_cast<std::size_t>(file.gcount())}) != Container::kOther;
}

}  // namespace dither
