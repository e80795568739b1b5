#include <fmt/format.h>

#include <charconv>
#include <string>

#include "base/atomic_folder.h"
#include "base/error.h"
#include "media/video_formats.h"

namespace dither {
namespace fs = std::filesystem;
namespace {

/// The number in "frame-0012.png"; nothing for other names.
std::optional<int> frame_number(const std::string& name) {
  constexpr std::string_view kPrefix = "frame-";
  int number = 0;
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const char* const end = name.data() + name.size();
  const auto [stop, failed] = std::from_chars(name.data() + kPrefix.size(), end, number);
  if (failed != std::errc() || number < 0 || name != fmt::format(kFrameFormat, number)) {
    return std::nullopt;
  }
  return number;
}

class FrameFolderWriter final : public VideoWriter {
 public:
  FrameFolderWriter(const fs::path& path, const VideoSettings& settings)
      : VideoWriter(path, settings), folder_(path) {}

 private:
  void write(const Image& frame) override {
    write_png(folder_.temporary() / fmt::format(kFrameFormat, frames()), frame, settings().text);
  }

  void commit() override { folder_.commit(AtomicFolder::Existing::kReplace); }

  AtomicFolder folder_;
};

class FrameFolderReader final : public VideoReader {
 public:
  explicit FrameFolderReader(fs::path folder) : folder_(std::move(folder)) {
    while (info_.frames <= kMaxVideoFrames && fs::exists(name(info_.frames))) ++info_.frames;
    if (info_.frames == 0) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: no {} in it: not a folder of frames", folder_.string(),
                              fmt::format(kFrameFormat, 0)));
    }
    const auto files = std::distance(fs::directory_iterator(folder_), fs::directory_iterator());
    if (files != info_.frames) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: {} files, of which {} are frames without a gap (at most {}); "
                              "other files are not understood",
                              folder_.string(), files, info_.frames, kMaxVideoFrames));
    }
    const Image first = read_png(name(0));
    info_.width = first.width;
    info_.height = first.height;
    info_.text = read_png_text(name(0));
  }

  const VideoInfo& info() const override { return info_; }

  std::optional<Image> next() override {
    if (next_ == info_.frames) return std::nullopt;
    Image frame = read_png(name(next_));
    if (frame.width != info_.width || frame.height != info_.height) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: {}x{} pixels, the first frame has {}x{}", name(next_).string(),
                              frame.width, frame.height, info_.width, info_.height));
    }
    ++next_;
    return frame;
  }

 private:
  fs::path name(int frame) const { return folder_ / fmt::format(kFrameFormat, frame); }

  fs::path folder_;
  VideoInfo info_;
  int next_ = 0;
};

}  // namespace

void check_frame_folder(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  if (!fs::is_directory(folder)) {
    throw Error(ErrorCode::kIo, fmt::format("{}: exists and is no folder", folder.string()));
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!frame_number(entry.path().filename().string())) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: holds {}, which is no frame: a video replaces folders of frames "
                              "only",
                              folder.string(), entry.path().filename().string()));
    }
  }
}

std::unique_ptr<VideoWriter> create_frames_writer(const fs::path& path,
                                                  const VideoSettings& settings) {
  check_frame_folder(path);
  return std::make_unique<FrameFolderWriter>(path, settings);
}

std::unique_ptr<VideoReader> open_frames(const fs::path& folder) {
  return std::make_unique<FrameFolderReader>(folder);
}

}  // namespace dither
