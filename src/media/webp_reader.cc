#include <fmt/format.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include <cstdint>
#include <memory>

#include "base/error.h"
#include "media/exif.h"
#include "media/webp.h"

namespace dither {
namespace {

using Demuxer = std::unique_ptr<WebPDemuxer, decltype(&WebPDemuxDelete)>;
using AnimationDecoder = std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)>;

const std::uint8_t* bytes_of(std::span<const std::byte> file) {
  return reinterpret_cast<const std::uint8_t*>(file.data());
}

[[noreturn]] void fail(std::string_view name, std::string_view what) {
  throw Error(ErrorCode::kDataLoss, fmt::format("{}: not a valid WebP: {}", name, what));
}

int orientation(WebPDemuxer* demuxer) {
  WebPChunkIterator chunk;
  if (WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk) == 0) return 1;
  const int found = exif_orientation(std::as_bytes(std::span(chunk.chunk.bytes, chunk.chunk.size)));
  WebPDemuxReleaseChunkIterator(&chunk);
  return found;
}

/// The first frame on the animation's canvas.
Image first_frame(const WebPData& data, std::string_view name) {
  WebPAnimDecoderOptions options;
  if (WebPAnimDecoderOptionsInit(&options) == 0) {
    throw Error(ErrorCode::kInternal, "libwebpdemux is of another version than its header");
  }
  options.color_mode = MODE_RGBA;
  const AnimationDecoder decoder(WebPAnimDecoderNew(&data, &options), &WebPAnimDecoderDelete);
  WebPAnimInfo info;
  std::uint8_t* rgba = nullptr;
  int end_ms = 0;
  if (!decoder || WebPAnimDecoderGetInfo(decoder.get(), &info) == 0 ||
      WebPAnimDecoderGetNext(decoder.get(), &rgba, &end_ms) == 0) {
    fail(name, "its first frame cannot be decoded");
  }
  Image image =
      solid_image(static_cast<int>(info.canvas_width), static_cast<int>(info.canvas_height), 0);
  for (std::size_t i = 0; i < image.pixels.size() / 3; ++i) {
    for (std::size_t c = 0; c < 3; ++c) image.pixels[3 * i + c] = rgba[4 * i + c];
  }
  return image;
}

Image still(std::span<const std::byte> file, std::string_view name, int width, int height) {
  Image image = solid_image(width, height, 0);
  if (WebPDecodeRGBInto(bytes_of(file), file.size(), image.pixels.data(), image.pixels.size(),
                        static_cast<int>(image.row_bytes())) == nullptr) {
    fail(name, "its pixels are damaged or end early");
  }
  return image;
}

}  // namespace

Image decode_webp(std::span<const std::byte> file, std::string_view name) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(bytes_of(file), file.size(), &features) != VP8_STATUS_OK) {
    fail(name, "its header is damaged");
  }
  // A few bytes can claim a canvas of 2^24 x 2^24, and libwebp would clear all of it.
  const auto pixels = std::int64_t{features.width} * features.height;
  if (pixels > kMaxWebpPixels) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: {}x{} pixels, at most {} in all are read", name, features.width,
                            features.height, kMaxWebpPixels));
  }
  const WebPData data = {bytes_of(file), file.size()};
  // Refuses a file that is shorter than it says, before memory is taken for pixels.
  const Demuxer demuxer(WebPDemux(&data), &WebPDemuxDelete);
  if (!demuxer) fail(name, "it is truncated or its chunks do not fit together");
  Image image = features.has_animation != 0 ? first_frame(data, name)
                                            : still(file, name, features.width, features.height);
  return oriented(std::move(image), orientation(demuxer.get()));
}

}  // namespace dither
