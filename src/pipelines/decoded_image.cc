#include "pipelines/decoded_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace dither {
namespace {

std::uint8_t to_level(float x) {
  const float unit = x * 0.5F + 0.5F;
  if (!(unit > 0.0F)) return 0;
  if (unit >= 1.0F) return 255;
  return static_cast<std::uint8_t>(std::nearbyintf(unit * 255.0F));
}

}  // namespace

Image to_image(const Tensor& decoded) {
  if (decoded.rank() != 4 || decoded.dim(0) != 1 || decoded.dim(3) != 3 ||
      decoded.dtype() != DType::kF32 || !decoded.contiguous()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("to_image: needs F32 [1, h, w, 3], not {}", to_string(decoded)));
  }
  const float* values = decoded.data<float>();
  Image image{.width = static_cast<int>(decoded.dim(2)),
              .height = static_cast<int>(decoded.dim(1)),
              .channels = 3,
              .pixels = {}};
  image.pixels.resize(static_cast<std::size_t>(decoded.elements()));
  std::transform(values, values + decoded.elements(), image.pixels.begin(), to_level);
  return image;
}

}  // namespace dither
