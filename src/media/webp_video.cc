#include <fmt/format.h>
#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "base/atomic_file.h"
#include "base/error.h"
#include "media/video_formats.h"
#include "media/xmp.h"

namespace dither {
namespace {

// Of 0 to 100: RGB as far off as an MP4's, measured in docs/decisions/0011.
constexpr float kQuality = 90;
constexpr int kMethod = 4;  // effort, 0 to 6

struct Deleter {
  void operator()(WebPMux* mux) const { WebPMuxDelete(mux); }
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

class Picture {
 public:
  explicit Picture(const Image& image) {
    WebPMemoryWriterInit(&writer_);
    const bool ready = WebPPictureInit(&picture_) != 0;
    picture_.width = image.width;
    picture_.height = image.height;
    picture_.writer = &WebPMemoryWrite;
    picture_.custom_ptr = &writer_;
    if (!ready || WebPPictureImportRGB(&picture_, image.pixels.data(),
                                       static_cast<int>(image.row_bytes())) == 0) {
      release();
      throw Error(ErrorCode::kResourceExhausted, "out of memory for a WebP encoder");
    }
  }
  ~Picture() { release(); }
  Picture(const Picture&) = delete;
  Picture& operator=(const Picture&) = delete;

  /// A still WebP, valid as long as this is. Throws kResourceExhausted.
  WebPData encode() {
    WebPConfig config;
    if (WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, kQuality) == 0) {
      throw Error(ErrorCode::kInternal, "libwebp is of another version than its header");
    }
    config.method = kMethod;
    if (WebPEncode(&config, &picture_) == 0) {
      throw Error(ErrorCode::kResourceExhausted,
                  fmt::format("WebP encoder: error {}", static_cast<int>(picture_.error_code)));
    }
    return {writer_.mem, writer_.size};
  }

 private:
  void release() {
    WebPPictureFree(&picture_);
    WebPMemoryWriterClear(&writer_);
  }

  WebPPicture picture_{};
  WebPMemoryWriter writer_{};
};

/// Frames are pushed one by one: WebPAnimEncoder would leave out a frame that equals the one
/// before.
class WebpVideoWriter final : public VideoWriter {
 public:
  WebpVideoWriter(const std::filesystem::path& path, const VideoSettings& settings)
      : VideoWriter(path, settings), file_(path), mux_(WebPMuxNew()) {
    if (!mux_) throw Error(ErrorCode::kResourceExhausted, "out of memory for a WebP file");
    if (settings.text.empty()) return;
    const std::string xmp = to_xmp(settings.text);
    const WebPData data = {reinterpret_cast<const std::uint8_t*>(xmp.data()), xmp.size()};
    check(WebPMuxSetChunk(mux_.get(), "XMP ", &data, /*copy_data=*/1));
  }

 private:
  void write(const Image& frame) override {
    Picture picture(frame);
    WebPMuxFrameInfo info{};
    info.bitstream = picture.encode();
    info.duration = static_cast<int>(end_ms(frames() + 1) - end_ms(frames()));
    info.id = WEBP_CHUNK_ANMF;
    info.dispose_method = WEBP_MUX_DISPOSE_NONE;
    info.blend_method = WEBP_MUX_NO_BLEND;
    check(WebPMuxPushFrame(mux_.get(), &info, /*copy_data=*/1));
  }

  void commit() override {
    const WebPMuxAnimParams forever{.bgcolor = 0xFF000000, .loop_count = 0};
    check(WebPMuxSetAnimationParams(mux_.get(), &forever));
    check(WebPMuxSetCanvasSize(mux_.get(), settings().width, settings().height));
    WebPData data;
    WebPDataInit(&data);
    check(WebPMuxAssemble(mux_.get(), &data));
    const std::unique_ptr<WebPData, decltype(&WebPDataClear)> owner(&data, &WebPDataClear);
    mux_.reset();
    file_.write(std::as_bytes(std::span(data.bytes, data.size)));
    file_.commit();
  }

  /// Milliseconds are rounded once, so that a long video keeps its pace.
  std::int64_t end_ms(std::int64_t frames) const {
    return std::llround(static_cast<double>(frames) * 1000.0 / settings().fps);
  }
  void check(WebPMuxError status) const {
    if (status == WEBP_MUX_OK) return;
    throw Error(
        status == WEBP_MUX_MEMORY_ERROR ? ErrorCode::kResourceExhausted : ErrorCode::kUnsupported,
        fmt::format("{}: libwebpmux fails with error {}", path().string(),
                    static_cast<int>(status)));
  }

  AtomicFile file_;
  std::unique_ptr<WebPMux, Deleter> mux_;
};

class WebpVideoReader final : public VideoReader {
 public:
  WebpVideoReader(std::span<const std::byte> file, std::string_view name) : name_(name) {
    const WebPData data = {reinterpret_cast<const std::uint8_t*>(file.data()), file.size()};
    demuxer_.reset(WebPDemux(&data));
    if (!demuxer_) fail(ErrorCode::kDataLoss, "truncated, or its chunks do not fit together");
    const auto get = [&](WebPFormatFeature feature) {
      return WebPDemuxGetI(demuxer_.get(), feature);
    };
    const std::uint32_t width = get(WEBP_FF_CANVAS_WIDTH);
    const std::uint32_t height = get(WEBP_FF_CANVAS_HEIGHT);
    const std::uint32_t frames = get(WEBP_FF_FRAME_COUNT);
    if (width > kMaxVideoExtent || height > kMaxVideoExtent || frames < 1 ||
        frames > kMaxVideoFrames) {
      fail(ErrorCode::kUnsupported,
           fmt::format("{} frames of {}x{}; 1 to {} of at most {}x{} are read", frames, width,
                       height, kMaxVideoFrames, kMaxVideoExtent, kMaxVideoExtent));
    }
    info_.width = static_cast<int>(width);
    info_.height = static_cast<int>(height);
    info_.frames = static_cast<int>(frames);
    const std::int64_t total_ms = check_frames();
    // libwebpmux makes a still picture of an animation with one frame.
    if ((get(WEBP_FF_FORMAT_FLAGS) & ANIMATION_FLAG) != 0) {
      if (total_ms < 1) fail(ErrorCode::kUnsupported, "its frames have no duration");
      info_.fps = info_.frames * 1000.0 / static_cast<double>(total_ms);
    }
    read_text();
  }

  const VideoInfo& info() const override { return info_; }

  std::optional<Image> next() override {
    if (next_ == info_.frames) return std::nullopt;
    ++next_;
    std::optional<Image> image = solid_image(info_.width, info_.height, 0);
    visit(next_, [&](const WebPIterator& frame) {
      if (WebPDecodeRGBInto(frame.fragment.bytes, frame.fragment.size, image->pixels.data(),
                            image->pixels.size(),
                            static_cast<int>(image->row_bytes())) == nullptr) {
        fail(ErrorCode::kDataLoss, fmt::format("the pixels of frame {} are damaged", next_));
      }
    });
    return image;
  }

 private:
  /// `number` from 1.
  template <typename Visitor>
  void visit(int number, Visitor visitor) const {
    WebPIterator frame;
    if (WebPDemuxGetFrame(demuxer_.get(), number, &frame) == 0) {
      fail(ErrorCode::kDataLoss, fmt::format("frame {} is missing", number));
    }
    const std::unique_ptr<WebPIterator, decltype(&WebPDemuxReleaseIterator)> owner(
        &frame, &WebPDemuxReleaseIterator);
    visitor(frame);
  }

  /// That each frame is a whole picture of the canvas, as the decoder will have it; how long all
  /// are.
  std::int64_t check_frames() const {
    std::int64_t total_ms = 0;
    for (int number = 1; number <= info_.frames; ++number) {
      visit(number, [&](const WebPIterator& frame) {
        int width = 0;
        int height = 0;
        const bool coded =
            WebPGetInfo(frame.fragment.bytes, frame.fragment.size, &width, &height) != 0;
        if (!coded || frame.complete == 0) {
          fail(ErrorCode::kDataLoss, fmt::format("frame {} is truncated or damaged", number));
        }
        if (frame.x_offset != 0 || frame.y_offset != 0 || width != info_.width ||
            height != info_.height || frame.has_alpha != 0) {
          fail(ErrorCode::kUnsupported,
               fmt::format("frame {} is a part of {}x{} of the canvas of {}x{}, or transparent; "
                           "whole frames are read",
                           number, width, height, info_.width, info_.height));
        }
        total_ms += frame.duration;
      });
    }
    return total_ms;
  }

  void read_text() {
    WebPChunkIterator chunk;
    if (WebPDemuxGetChunk(demuxer_.get(), "XMP ", 1, &chunk) == 0) return;
    const std::string xmp(reinterpret_cast<const char*>(chunk.chunk.bytes), chunk.chunk.size);
    WebPDemuxReleaseChunkIterator(&chunk);
    info_.text = parse_xmp(xmp);
  }

  [[noreturn]] void fail(ErrorCode code, std::string_view what) const {
    throw Error(code, fmt::format("{}: {}", name_, what));
  }

  std::string name_;
  std::unique_ptr<WebPDemuxer, Deleter> demuxer_;
  VideoInfo info_;
  int next_ = 0;
};

}  // namespace

std::unique_ptr<VideoWriter> create_webp_writer(const std::filesystem::path& path,
                                                const VideoSettings& settings) {
  return std::make_unique<WebpVideoWriter>(path, settings);
}

std::unique_ptr<VideoReader> open_webp(std::span<const std::byte> file, std::string_view name) {
  return std::make_unique<WebpVideoReader>(file, name);
}

}  // namespace dither
