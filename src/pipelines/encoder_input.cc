#include "pipelines/encoder_input.h"

#include <algorithm>
#include <cstdint>

namespace dither {

Tensor to_pixels(const Image& image) {
  const Tensor pixels = Tensor::host({1, image.height, image.width, image.channels}, DType::kF32);
  std::ranges::transform(image.pixels, pixels.data<float>(), [](std::uint8_t value) {
    return 2.0F * (static_cast<float>(value) / 255.0F) - 1.0F;
  });
  return pixels;
}

}  // namespace dither
