#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "media/image.h"
#include "media/png.h"

/// Videos as files, in three formats: MP4 with H.264, animated WebP, a folder of PNG frames.
/// docs/formats.md says what is inside, docs/decisions/0011 why.
namespace dither {

/// Largest width and height of a video that is written or read.
inline constexpr int kMaxVideoExtent = 4096;
/// Most frames of a video that is read.
inline constexpr int kMaxVideoFrames = 100'000;
inline constexpr int kMaxVideoFps = 240;

struct VideoSettings {
  int width = 0;
  int height = 0;
  int fps = 0;
  /// Goes into the file: MP4 metadata items, XMP of a WebP, text chunks of every PNG. Keywords as
  /// encode_png() takes them; letters, digits, '-' and '_' only.
  PngText text = {};
};

/// Writes one video. It appears under its name, complete, in finish(); destroyed before, a writer
/// leaves nothing and what stood under the name stays.
class VideoWriter {
 public:
  VideoWriter(std::filesystem::path path, VideoSettings settings)
      : path_(std::move(path)), settings_(std::move(settings)) {}
  virtual ~VideoWriter() = default;
  VideoWriter(const VideoWriter&) = delete;
  VideoWriter& operator=(const VideoWriter&) = delete;

  /// The next frame. Throws kInvalidArgument for one of another size, and like AtomicFile.
  void add(const Image& frame);
  /// Call once, after the last frame. Throws kInvalidArgument when there was none, kUnsupported for
  /// a file over 4 GiB, and like AtomicFile: kResourceExhausted on a full disk.
  void finish();

 protected:
  const std::filesystem::path& path() const { return path_; }
  const VideoSettings& settings() const { return settings_; }
  int frames() const { return frames_; }  ///< that were written

 private:
  /// A frame of the video's size.
  virtual void write(const Image& frame) = 0;
  /// Behind at least one frame.
  virtual void commit() = 0;

  std::filesystem::path path_;
  VideoSettings settings_;
  int frames_ = 0;
};

/// What create_video_writer() throws for the ending and the settings, without writing anything:
/// before the frames are made.
void check_video(const std::filesystem::path& path, const VideoSettings& settings);

/// By the path's ending. Equal frames and settings give equal bytes with the same libraries.
/// - ".mp4": H.264, 4:2:0, BT.709, QP 16 throughout, a key frame at least every two seconds;
///   width and height must be even, at least 16 each and at most 4096 x 2304 in all.
/// - ".webp": lossy WebP of quality 90, each frame whole, repeated forever; one frame alone is a
///   still WebP.
/// - none: a folder of frame-0000.png, frame-0001.png, ..., which replaces one of that name that
///   holds nothing else.
/// An MP4's and a WebP's coded frames are held in memory until finish().
/// Throws kInvalidArgument for settings that the format cannot hold, kUnsupported for another
/// ending, and like AtomicFile and AtomicFolder, which take the name at once.
std::unique_ptr<VideoWriter> create_video_writer(const std::filesystem::path& path,
                                                 const VideoSettings& settings);

/// Throws kInvalidArgument when a folder of that name holds anything but frames, so that writing a
/// video would delete it, and kIo when the name is a file's.
void check_frame_folder(const std::filesystem::path& folder);

struct VideoInfo {
  int width = 0;
  int height = 0;
  int frames = 0;
  double fps =
      0;  ///< frames over their duration; 0: not in the file (a folder, a WebP of one frame)
  PngText text = {};
};

/// Reads one video frame by frame, in memory that does not grow with their number.
class VideoReader {
 public:
  VideoReader() = default;
  virtual ~VideoReader() = default;
  VideoReader(const VideoReader&) = delete;
  VideoReader& operator=(const VideoReader&) = delete;

  virtual const VideoInfo& info() const = 0;
  /// The next frame as RGB, nothing after the last. Throws kDataLoss, kUnsupported, and kIo.
  virtual std::optional<Image> next() = 0;
};

/// Opens what create_video_writer() writes, by the file's first bytes; a folder is one of frames.
/// Strict: MP4 boxes, H.264 features and WebP animations that it does not write are refused by
/// name. Throws kNotFound, kIo, kDataLoss (malformed), kUnsupported.
std::unique_ptr<VideoReader> open_video(const std::filesystem::path& path);

/// The same of a file in memory, which must outlive the reader. `name` is for messages.
std::unique_ptr<VideoReader> open_video(std::span<const std::byte> file, std::string_view name);

/// Whether the path is a file that begins as an MP4 or a WebP does, or a folder with frames.
bool is_video(const std::filesystem::path& path);

}  // namespace dither
