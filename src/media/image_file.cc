#include "media/image_file.h"

#include <fmt/format.h>

#include <array>
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
  std::string_view magic;    ///< at byte 0
  std::string_view subtype;  ///< at byte 8, or nothing
  Decoder decode = nullptr;  ///< null: not supported
};

using std::string_view_literals::operator""sv;

constexpr std::array kFormats = {
    Format{"PNG", "\x89PNG\r\n\x1a\n"sv, "", decode_png},
    Format{"JPEG", "\xFF\xD8\xFF"sv, "", decode_jpeg},
    Format{"WebP", "RIFF"sv, "WEBP"sv, decode_webp},
    Format{"GIF", "GIF8"sv, ""},
    Format{"BMP", "BM"sv, ""},
    Format{"TIFF", "II*\0"sv, ""},
    Format{"TIFF", "MM\0*"sv, ""},
    Format{"AVIF or HEIC", "\0\0\0"sv, ""},
};

bool is(const Format& format, std::string_view file) {
  return file.starts_with(format.magic) &&
         (format.subtype.empty() ||
          (file.size() >= 12 && file.substr(8).starts_with(format.subtype)));
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
