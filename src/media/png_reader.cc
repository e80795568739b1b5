#include <fmt/format.h>
#include <png.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "media/exif.h"
#include "media/png.h"
#include "media/png_error.h"

namespace dither {
namespace {

/// Deflate cannot expand more than this (RFC 1951: 258 bytes for 2 bits).
constexpr std::uint64_t kMaxDeflateRatio = 1032;

/// The chunks lie back to back: big-endian u32 length, type, data, u32 checksum (PNG 3rd ed., 5.3).
/// libpng allocates a chunk's length before it reads it, and takes its own limit on that for a
/// warning, so a length that lies costs up to 2 GiB. Throws kDataLoss on a chunk that ends after
/// the file.
void check_chunk_lengths(std::span<const std::byte> file, std::string_view name) {
  constexpr std::size_t kSignatureBytes = 8;
  constexpr std::size_t kFrameBytes = 12;  // length, type, checksum
  std::size_t begin = kSignatureBytes;
  while (begin < file.size() && file.size() - begin >= kFrameBytes) {
    std::uint64_t length = 0;
    for (const std::byte byte : file.subspan(begin, 4)) {
      length = length << 8U | std::to_integer<std::uint64_t>(byte);
    }
    const std::size_t rest = file.size() - begin - kFrameBytes;
    if (length > rest) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: not a valid PNG: the chunk at byte {} claims {} bytes of data, "
                              "the file has {}",
                              name, begin, length, rest));
    }
    begin += kFrameBytes + length;
  }
}

class PngReader {
 public:
  explicit PngReader(std::span<const std::byte> file)
      : rest_(file),
        png_(png_create_read_struct(PNG_LIBPNG_VER_STRING, &error_, PngErrorState::on_error,
                                    PngErrorState::on_warning)),
        info_(png_ != nullptr ? png_create_info_struct(png_) : nullptr) {
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw Error(ErrorCode::kResourceExhausted, "out of memory for a PNG decoder");
    }
    png_set_read_fn(png_, &rest_, take);
    png_set_user_limits(png_, kMaxPngExtent, kMaxPngExtent);
    // Compressed texts: together they expand to 64 x 4 MiB at most.
    png_set_chunk_malloc_max(png_, png_alloc_size_t{4} << 20);
    png_set_chunk_cache_max(png_, 64);
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  // The steps return false on an error of libpng: message() says which.

  /// Everything before the pixels.
  bool read_header() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;  // NOLINT(cert-err52-cpp): libpng's interface
    png_read_info(png_, info_);
    return true;
  }

  /// After read_header(): asks for 8-bit RGB rows.
  bool convert_to_rgb() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;  // NOLINT(cert-err52-cpp)
    png_set_expand(png_);
    png_set_scale_16(png_);
    png_set_gray_to_rgb(png_);
    png_set_strip_alpha(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }

  /// After convert_to_rgb(): the pixels and the rest of the file.
  bool read_pixels(Image& image) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;  // NOLINT(cert-err52-cpp)
    const int passes = png_get_interlace_type(png_, info_) == PNG_INTERLACE_ADAM7 ? 7 : 1;
    for (int pass = 0; pass < passes; ++pass) {
      for (int y = 0; y < image.height; ++y) png_read_row(png_, image.row(y), nullptr);
    }
    png_read_end(png_, nullptr);
    return true;
  }

  std::uint64_t row_bytes() const { return png_get_rowbytes(png_, info_); }
  int width() const { return static_cast<int>(png_get_image_width(png_, info_)); }
  int height() const { return static_cast<int>(png_get_image_height(png_, info_)); }

  int orientation() const {
    png_bytep exif = nullptr;
    png_uint_32 size = 0;
    if (png_get_eXIf_1(png_, info_, &size, &exif) == 0) return 1;
    return exif_orientation(std::as_bytes(std::span(exif, size)));
  }

  std::span<const png_text> text() const {
    png_textp chunks = nullptr;
    int count = 0;
    png_get_text(png_, info_, &chunks, &count);
    return {chunks, static_cast<std::size_t>(count)};
  }

  const char* message() const { return error_.message.data(); }

 private:
  static void take(png_structp png, png_bytep data, std::size_t size) {
    auto* rest = static_cast<std::span<const std::byte>*>(png_get_io_ptr(png));
    if (size > rest->size()) png_error(png, "the file is truncated");
    std::memcpy(data, rest->data(), size);
    *rest = rest->subspan(size);
  }

  std::span<const std::byte> rest_;
  PngErrorState error_;
  png_structp png_;
  png_infop info_;
};

void require(bool read, const PngReader& reader, std::string_view name) {
  if (!read) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: not a valid PNG: {}", name, reader.message()));
  }
}

std::string latin1_to_utf8(std::string_view text) {
  std::string utf8;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (code < 0x80) {
      utf8 += c;
    } else {
      utf8 += static_cast<char>(0xC0U | code >> 6U);
      utf8 += static_cast<char>(0x80U | (code & 0x3FU));
    }
  }
  return utf8;
}

}  // namespace

Image decode_png(std::span<const std::byte> file, std::string_view name) {
  check_chunk_lengths(file, name);
  PngReader reader(file);
  require(reader.read_header(), reader, name);
  // Before any memory is taken for pixels: could so few bytes hold them at all?
  const std::uint64_t stored = reader.row_bytes() * static_cast<std::uint64_t>(reader.height());
  if (stored / kMaxDeflateRatio > file.size()) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: {} bytes cannot hold {}x{} pixels", name,
                                                  file.size(), reader.width(), reader.height()));
  }
  require(reader.convert_to_rgb(), reader, name);
  Image image = solid_image(reader.width(), reader.height(), 0);
  if (reader.row_bytes() != image.row_bytes()) {
    throw Error(ErrorCode::kInternal, fmt::format("{}: rows of {} bytes for {} pixels", name,
                                                  reader.row_bytes(), image.width));
  }
  require(reader.read_pixels(image), reader, name);
  return oriented(std::move(image), reader.orientation());
}

Image read_png(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  return decode_png(file->bytes(), path.string());
}

PngText decode_png_text(std::span<const std::byte> file, std::string_view name) {
  check_chunk_lengths(file, name);
  PngReader reader(file);
  require(reader.read_header(), reader, name);
  PngText result;
  for (const png_text& chunk : reader.text()) {
    const bool utf8 = chunk.compression == PNG_ITXT_COMPRESSION_NONE ||
                      chunk.compression == PNG_ITXT_COMPRESSION_zTXt;
    const std::string_view text(chunk.text, utf8 ? chunk.itxt_length : chunk.text_length);
    result.emplace_back(latin1_to_utf8(chunk.key), utf8 ? std::string(text) : latin1_to_utf8(text));
  }
  return result;
}

PngText read_png_text(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  return decode_png_text(file->bytes(), path.string());
}

}  // namespace dither
