#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "base/error.h"
#include "io/safetensors_header.h"

/// Any bytes: a header whose tensors lie inside the file, or an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto header =
        dither::parse_safetensors_header(std::as_bytes(std::span(data, size)), "input");
    for (std::size_t i = 0; i < header.tensors.size(); ++i) {
      const auto& tensor = header.tensors[i];
      const auto bits =
          dither::element_count(tensor.shape) * std::int64_t{dither::dtype_bits(tensor.dtype)};
      const auto bytes = static_cast<std::uint64_t>(bits) / 8;
      if (header.offsets[i] > size || bytes > size - header.offsets[i]) std::abort();
    }
  } catch (const dither::Error&) {
  }
  return 0;
}
