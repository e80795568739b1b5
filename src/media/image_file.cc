#include "media/image_file.h"

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <string_view>

#include "base/error.h"
#include "base/mapped_file.h"
#include "media/jpeg.h"
#include "media/png.h"
#include "media/webp.h"

namespace dither {
namespace {

using Decoder = Image (*)(std::span<const std::byte>, std::string_view);

struct Format {
  std::string_view name;
  std::string_view magic;  ///< at byte 0
  std::size_t place = 0;   ///< of the following
  std::string_view mark = {};
  Decoder decode = nullptr;  ///< null: not supported
};

using std::string_view_literals::operator""sv;

/// The first that fits. What starts with an "ftyp" box is told apart by its brand.
constexpr std::array kFormats = {
    Format{.name = "PNG", .magic = "\x89PNG\r\n\x1a\n"sv, .decode = decode_png},
    Format{.name = "JPEG", .magic = "\xFF\xD8\xFF"sv, .decode = decode_jpeg},
    Format{.name = "WebP", .magic = "RIFF"sv, .place = 8, .mark = "WEBP"sv, .decode = decode_webp},
    Format{.name = "GIF", .magic = "GIF8"sv},
    Format{.name = "BMP", .magic = "BM"sv},
    Format{.name = "TIFF", .magic = "II*\0"sv},
    Format{.name = "TIFF", .magic = "MM\0*"sv},
    Format{.name = "AVIF", .magic = {}, .place = 4, .mark = "ftypavi"sv},
    Format{.name = "HEIC", .magic = {}, .place = 4, .mark = "ftyphe"sv},
    Format{.name = "AVIF or HEIC", .magic = {}, .place = 4, .mark = "ftypmif1"sv},
    Format{.name = "AVIF or HEIC", .magic = {}, .place = 4, .mark = "ftypmsf1"sv},
    Format{.name = "a video (MP4 or MOV)", .magic = {}, .place = 4, .mark = "ftyp"sv},
};

bool is(const Format& format, std::string_view file) {
  return file.starts_with(format.magic) && file.size() >= format.place &&
         file.substr(format.place).starts_with(format.mark);
}

}  // namespace

Image decode_image(std::span<const std::byte> file, std::string_view name) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  for (const Format& format : kFormats) {
    if (!is(format, text)) continue;
    if (format.decode != nullptr) return format.decode(file, name);
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: looks like {}; PNG, JPEG and WebP are read", name, format.name));
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: not a picture: PNG, JPEG and WebP are read", name));
}

Image read_image(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  return decode_image(file->bytes(), path.string());
}

}  // namespace dither
