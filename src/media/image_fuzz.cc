#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "media/image_file.h"

/// Any bytes: a picture or an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    dither::decode_image(std::as_bytes(std::span(data, size)), "input");
  } catch (const dither::Error&) {
  }
  return 0;
}
