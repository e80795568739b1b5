#include "media/exif.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

namespace dither {
namespace {

/// Reads numbers of either byte order; what lies outside of the bytes is 0.
struct Numbers {
  std::span<const std::byte> bytes;
  bool big_endian;

  std::uint32_t at(std::size_t offset, std::size_t size) const {
    if (offset > bytes.size() || size > bytes.size() - offset) return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t byte = offset + (big_endian ? i : size - 1 - i);
      value = value << 8U | std::to_integer<std::uint32_t>(bytes[byte]);
    }
    return value;
  }
};

bool begins_with(std::span<const std::byte> bytes, std::span<const char> prefix) {
  return bytes.size() >= prefix.size() &&
         std::memcmp(bytes.data(), prefix.data(), prefix.size()) == 0;
}

}  // namespace

int exif_orientation(std::span<const std::byte> exif) {
  constexpr std::array<char, 6> kExif = {'E', 'x', 'i', 'f', '\0', '\0'};
  constexpr std::array<char, 4> kLittleEndian = {'I', 'I', '*', '\0'};
  constexpr std::array<char, 4> kBigEndian = {'M', 'M', '\0', '*'};
  constexpr std::uint32_t kOrientation = 0x0112;
  constexpr std::uint32_t kShort = 3;
  constexpr std::size_t kEntryBytes = 12;  // tag, type, count, value
  if (begins_with(exif, kExif)) exif = exif.subspan(kExif.size());
  const bool big_endian = begins_with(exif, kBigEndian);
  if (!big_endian && !begins_with(exif, kLittleEndian)) return 1;
  const Numbers numbers{exif, big_endian};
  const std::size_t directory = numbers.at(4, 4);
  const std::size_t entries = numbers.at(directory, 2);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + i * kEntryBytes;
    if (numbers.at(entry, 2) != kOrientation) continue;
    const std::uint32_t value = numbers.at(entry + 8, 2);
    const bool valid = numbers.at(entry + 2, 2) == kShort && value >= 1 && value <= 8;
    return valid ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image oriented(Image image, int orientation) {
  if (orientation <= 1 || orientation > 8) return image;
  const bool swaps_sides = orientation >= 5;
  const bool mirrors_x =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirrors_y =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image upright = image;
  if (swaps_sides) std::swap(upright.width, upright.height);
  const auto channels = static_cast<std::size_t>(image.channels);
  for (int y = 0; y < upright.height; ++y) {
    std::uint8_t* to = upright.row(y);
    for (int x = 0; x < upright.width; ++x, to += channels) {
      // The stored row and column that are seen at (y, x).
      const auto [row, column] = swaps_sides ? std::pair(x, y) : std::pair(y, x);
      const int from_row = mirrors_y ? image.height - 1 - row : row;
      const int from_column = mirrors_x ? image.width - 1 - column : column;
      std::copy_n(image.row(from_row) + static_cast<std::size_t>(from_column) * channels, channels,
                  to);
    }
  }
  return upright;
}

}  // namespace dither
