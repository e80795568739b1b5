#include <fmt/format.h>

#include <array>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
// After cstdio, whose FILE and size_t it uses.
#include <jerror.h>
#include <jpeglib.h>

#include "base/error.h"
#include "media/exif.h"
#include "media/jpeg.h"

namespace dither {
namespace {

/// A picture that people make has ten scans or so; each of thousands would be decoded in full.
constexpr int kMaxScans = 100;
/// Of coefficients, which a progressive picture needs all at once: 16384 x 5461 pixels of YCbCr.
constexpr long kMaxWorkingBytes = long{512} << 20;

/// libjpeg's decoder. It reports by a jump back to the latest setjmp: a function that calls setjmp
/// has no object with a destructor in its frame, nor may a callback.
class JpegReader {
 public:
  explicit JpegReader(std::span<const std::byte> file) {
    jpeg_.err = jpeg_std_error(&errors_);
    errors_.error_exit = on_error;
    errors_.emit_message = on_message;
    jpeg_.client_data = this;
    source_.next_input_byte = reinterpret_cast<const JOCTET*>(file.data());
    source_.bytes_in_buffer = file.size();
    source_.init_source = [](j_decompress_ptr) {};
    source_.term_source = [](j_decompress_ptr) {};
    source_.fill_input_buffer = on_end;
    source_.skip_input_data = skip;
    source_.resync_to_restart = jpeg_resync_to_restart;
    progress_.progress_monitor = on_progress;
  }
  ~JpegReader() { jpeg_destroy_decompress(&jpeg_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  // The steps return false on an error of libjpeg: message() says which.

  bool read_header() {
    if (setjmp(jump_) != 0) return false;  // NOLINT(cert-err52-cpp): libjpeg's interface
    jpeg_create_decompress(&jpeg_);
    jpeg_.client_data = this;
    jpeg_.src = &source_;
    jpeg_.progress = &progress_;
    jpeg_.mem->max_memory_to_use = kMaxWorkingBytes;
    jpeg_save_markers(&jpeg_, kExifMarker, 0xFFFF);
    jpeg_read_header(&jpeg_, TRUE);
    return true;
  }

  bool start() {
    if (setjmp(jump_) != 0) return false;  // NOLINT(cert-err52-cpp)
    const bool four = jpeg_.jpeg_color_space == JCS_CMYK || jpeg_.jpeg_color_space == JCS_YCCK;
    jpeg_.out_color_space = four ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&jpeg_);
    return true;
  }

  bool read_row(std::uint8_t* row) {
    if (setjmp(jump_) != 0) return false;  // NOLINT(cert-err52-cpp)
    jpeg_read_scanlines(&jpeg_, &row, 1);
    return true;
  }

  bool finish() {
    if (setjmp(jump_) != 0) return false;  // NOLINT(cert-err52-cpp)
    jpeg_finish_decompress(&jpeg_);
    return true;
  }

  std::int64_t width() const { return jpeg_.image_width; }
  std::int64_t height() const { return jpeg_.image_height; }
  int channels() const { return jpeg_.output_components; }

  /// After read_header(), before finish(), which frees the markers.
  int orientation() const {
    for (const jpeg_marker_struct* marker = jpeg_.marker_list; marker != nullptr;
         marker = marker->next) {
      const auto bytes = std::as_bytes(std::span(marker->data, marker->data_length));
      if (const int found = exif_orientation(bytes); found != 1) return found;
    }
    return 1;
  }

  const char* message() const { return message_.data(); }

 private:
  static constexpr int kExifMarker = JPEG_APP0 + 1;

  static JpegReader* self(j_common_ptr jpeg) { return static_cast<JpegReader*>(jpeg->client_data); }
  [[noreturn]] static void fail(j_common_ptr jpeg, const char* text) {
    JpegReader* reader = self(jpeg);
    std::snprintf(reader->message_.data(), reader->message_.size(), "%s", text);
    std::longjmp(reader->jump_, 1);
  }
  static void on_error(j_common_ptr jpeg) {
    std::array<char, JMSG_LENGTH_MAX> text{};
    jpeg->err->format_message(jpeg, text.data());
    fail(jpeg, text.data());
  }
  /// Level -1 is a warning: data that was damaged and made up. The rest is chatter.
  static void on_message(j_common_ptr jpeg, int level) {
    // Bytes before a marker that have no meaning: editors leave them, and nothing was lost.
    if (level < 0 && jpeg->err->msg_code != JWRN_EXTRANEOUS_DATA) on_error(jpeg);
  }
  static boolean on_end(j_decompress_ptr jpeg) {
    fail(reinterpret_cast<j_common_ptr>(jpeg), "the file is truncated");
  }
  static void skip(j_decompress_ptr jpeg, long count) {
    jpeg_source_mgr* source = jpeg->src;
    if (count <= 0) return;
    if (static_cast<std::size_t>(count) > source->bytes_in_buffer) on_end(jpeg);
    source->next_input_byte += count;
    source->bytes_in_buffer -= static_cast<std::size_t>(count);
  }
  static void on_progress(j_common_ptr jpeg) {
    const auto* decoder = reinterpret_cast<j_decompress_ptr>(jpeg);
    if (decoder->input_scan_number > kMaxScans) fail(jpeg, "too many scans");
  }

  jpeg_decompress_struct jpeg_{};
  jpeg_error_mgr errors_{};
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_{};
  std::array<char, JMSG_LENGTH_MAX> message_{};
};

void require(bool read, const JpegReader& reader, std::string_view name) {
  if (!read) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: not a valid JPEG: {}", name, reader.message()));
  }
}

/// round(a b / 255) as Pillow computes it.
std::uint8_t scaled(unsigned a, unsigned b) {
  const unsigned product = a * b + 128;
  return static_cast<std::uint8_t>((product + (product >> 8U)) >> 8U);
}

/// One row of inverted ink amounts (Adobe's convention, which Pillow takes for granted) as light:
/// (1 - k) (1 - c). Source: Pillow's cmyk2rgb.
void cmyk_to_rgb(const std::uint8_t* inverted, int width, std::uint8_t* rgb) {
  for (int x = 0; x < width; ++x, inverted += 4) {
    const unsigned white = inverted[3];
    for (int c = 0; c < 3; ++c) {
      *rgb++ = static_cast<std::uint8_t>(white - scaled(255U - inverted[c], white));
    }
  }
}

}  // namespace

Image decode_jpeg(std::span<const std::byte> file, std::string_view name) {
  JpegReader reader(file);
  require(reader.read_header(), reader, name);
  if (reader.width() > kMaxJpegExtent || reader.height() > kMaxJpegExtent) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: {}x{} pixels, at most {} a side are read", name, reader.width(),
                            reader.height(), kMaxJpegExtent));
  }
  const int orientation = reader.orientation();
  require(reader.start(), reader, name);
  Image image{.width = static_cast<int>(reader.width()),
              .height = static_cast<int>(reader.height()),
              .channels = 3,
              .pixels = {}};
  std::vector<std::uint8_t> cmyk(reader.channels() == 4 ? 4 * image.row_bytes() / 3 : 0);
  for (int y = 0; y < image.height; ++y) {
    // Memory is taken as rows arrive, so that a short file cannot claim much of it.
    image.pixels.resize(image.pixels.size() + image.row_bytes());
    std::uint8_t* row = image.row(y);
    require(reader.read_row(cmyk.empty() ? row : cmyk.data()), reader, name);
    if (!cmyk.empty()) cmyk_to_rgb(cmyk.data(), image.width, row);
  }
  require(reader.finish(), reader, name);
  return oriented(std::move(image), orientation);
}

}  // namespace dither
