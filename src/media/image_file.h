#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

#include "media/image.h"

/// Pictures that people bring: what diffusers' load_image() makes of them with Pillow, as RGB.
namespace dither {

/// PNG (decode_png()), JPEG (decode_jpeg()) or WebP (decode_webp()), by the file's first bytes,
/// turned upright as its EXIF orientation says. `name` is for messages. Throws kUnsupported for any
/// other format, which it names where it knows it, and what the decoders throw.
Image decode_image(std::span<const std::byte> file, std::string_view name);

/// Throws like MappedFile::open() and decode_image().
Image read_image(const std::filesystem::path& path);

}  // namespace dither
