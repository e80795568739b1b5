#include "pipelines/decoded_image.h"

#include <fmt/format.h>

#include <cstdint>

#include "base/error.h"

namespace dither {

Image to_image(const Tensor& pixels) {
  if (pixels.rank() != 4 || pixels.dim(0) != 1 || pixels.dim(3) != 3 ||
      pixels.dtype() != DType::kU8 || !pixels.contiguous()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("to_image: needs U8 [1, h, w, 3], not {}", to_string(pixels)));
  }
  const auto* const values = pixels.data<std::uint8_t>();
  return {.width = static_cast<int>(pixels.dim(2)),
          .height = static_cast<int>(pixels.dim(1)),
          .channels = 3,
          .pixels = {values, values + pixels.elements()}};
}

}  // namespace dither
