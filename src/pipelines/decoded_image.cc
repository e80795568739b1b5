#include "pipelines/decoded_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/error.h"

namespace dither {
namespace {

/// round(255 clamp(x / 2 + 1/2, 0, 1)), ties to even; NaN is black. Without branches or calls, so
/// that compilers make vectors of it.
std::uint8_t to_level(float x) {
  const float unit = x * 0.5F + 0.5F;
  const float above = unit > 0.0F ? unit : 0.0F;
  const float level = (above < 1.0F ? above : 1.0F) * 255.0F;
  constexpr float kInteger = 8388608.0F;  // 2^23: from here on float32 has integers only
  return static_cast<std::uint8_t>(static_cast<std::int32_t>((level + kInteger) - kInteger));
}

template <typename T>
void convert(const Tensor& decoded, Image& image) {
  const T* const values = decoded.data<T>();
  std::transform(values, values + decoded.elements(), image.pixels.begin(),
                 [](T value) { return to_level(to_float(value)); });
}

}  // namespace

Image to_image(const Tensor& decoded) {
  if (decoded.rank() != 4 || decoded.dim(0) != 1 || decoded.dim(3) != 3 ||
      (decoded.dtype() != DType::kF32 && decoded.dtype() != DType::kBF16) ||
      !decoded.contiguous()) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("to_image: needs F32 or BF16 [1, h, w, 3], not {}", to_string(decoded)));
  }
  Image image{.width = static_cast<int>(decoded.dim(2)),
              .height = static_cast<int>(decoded.dim(1)),
              .channels = 3,
              .pixels = {}};
  image.pixels.resize(static_cast<std::size_t>(decoded.elements()));
  if (decoded.dtype() == DType::kF32) {
    convert<float>(decoded, image);
  } else {
    convert<bf16>(decoded, image);
  }
  return image;
}

}  // namespace dither
