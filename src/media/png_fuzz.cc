#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "media/png.h"

namespace {

/// CRC-32 of ISO 3309, the checksum of PNG chunks.
std::uint32_t crc32(std::span<const std::uint8_t> bytes) {
  std::uint32_t crc = ~0U;
  for (const std::uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ (crc & 1U ? 0xEDB88320U : 0U);
  }
  return ~crc;
}

/// Repairs the checksum of every chunk, so that a mutation inside a chunk reaches its decoder.
void repair_checksums(std::span<std::uint8_t> file) {
  std::size_t chunk = 8;  // after the signature: u32 length, type, data, u32 checksum
  while (chunk + 12 <= file.size()) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8U | file[chunk + i];
    if (length > file.size() - chunk - 12) return;
    const std::uint32_t crc = crc32(file.subspan(chunk + 4, 4 + length));
    for (std::size_t i = 0; i < 4; ++i) {
      file[chunk + 8 + length + i] = static_cast<std::uint8_t>(crc >> (24 - 8 * i));
    }
    chunk += 12 + length;
  }
}

void decode(std::span<const std::uint8_t> file) {
  try {
    dither::decode_png_text(std::as_bytes(file), "input");
    dither::decode_png(std::as_bytes(file), "input");
  } catch (const dither::Error&) {
  }
}

}  // namespace

/// Any bytes: an image, a text, or an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  decode({data, size});
  std::vector<std::uint8_t> repaired(data, data + size);
  repair_checksums(repaired);
  decode(repaired);
  return 0;
}
