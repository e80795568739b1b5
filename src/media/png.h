#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "media/image.h"

namespace dither {

/// Keyword and UTF-8 text, in file order.
using PngText = std::vector<std::pair<std::string, std::string>>;

/// Largest width and height that is read or written.
inline constexpr int kMaxPngExtent = 16384;

/// An RGB picture as PNG bytes. Equal input gives equal bytes on every machine with the same zlib:
/// no time, no program version. `text` becomes uncompressed iTXt chunks before the pixels.
/// Throws kInvalidArgument on an image that is not RGB or empty, and on a keyword that is not 1 to
/// 79 printable ASCII characters or a text with a NUL.
std::vector<std::byte> encode_png(const Image& image, const PngText& text = {});

/// Writes encode_png() atomically: the file is complete or not there. Throws like AtomicFile.
void write_png(const std::filesystem::path& path, const Image& image, const PngText& text = {});

/// Any PNG as RGB, upright as its EXIF orientation says: palettes and grey expanded, 16-bit samples
/// scaled to 8, alpha dropped. `name` is for messages. Throws kDataLoss (malformed or truncated),
/// kUnsupported (too large).
Image decode_png(std::span<const std::byte> file, std::string_view name);

/// Throws like MappedFile::open() and decode_png().
Image read_png(const std::filesystem::path& path);

/// The text chunks (tEXt, zTXt, iTXt) that stand before the pixels, without decoding those.
/// Throws like decode_png().
PngText decode_png_text(std::span<const std::byte> file, std::string_view name);

/// Throws like MappedFile::open() and decode_png().
PngText read_png_text(const std::filesystem::path& path);

}  // namespace dither
