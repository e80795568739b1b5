#include "pipelines/decoded_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "ops/ops.h"

namespace dither {

void paste(const Tensor& pixels, std::int64_t top, std::int64_t left, Image& image) {
  if (pixels.rank() != 4 || pixels.dim(0) != 1 || pixels.dim(3) != 3 ||
      pixels.dtype() != DType::kU8 || !pixels.contiguous()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("paste: needs U8 [1, h, w, 3], not {}", to_string(pixels)));
  }
  const std::int64_t height = pixels.dim(1);
  const std::int64_t width = pixels.dim(2);
  if (top < 0 || left < 0 || top + height > image.height || left + width > image.width ||
      image.channels != 3) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("paste: {} x {} pixels at ({}, {}) leave a picture of {} x {}", width,
                            height, left, top, image.width, image.height));
  }
  const std::int64_t row = width * 3;
  for (std::int64_t y = 0; y < height; ++y) {
    std::copy_n(pixels.data<std::uint8_t>() + y * row, row,
                image.row(static_cast<int>(top + y)) + left * 3);
  }
}

Image decode_picture(const models::AutoencoderKlDecoder& decoder,
                     const models::AutoencoderKlConfig& config, const Tensor& z, bool tiling) {
  ops::Backend& backend = ops::backend_of(z);
  const std::int64_t scale = config.vae_scale_factor();
  const auto pixels_of = [](const Tensor& decoded) {
    return ops::to_pixels(ops::contiguous(decoded));
  };
  const auto blank = [&] {
    return solid_image(static_cast<int>(z.dim(2) * scale), static_cast<int>(z.dim(1) * scale), 0);
  };
  if (!tiling || !models::exceeds(config.tiles(), z)) {
    const Tensor pixels = pixels_of(decoder(z));
    Image image = blank();  // while the device works: the first touch of new memory takes time
    paste(backend.download(pixels), 0, 0, image);
    return image;
  }
  Image image = blank();
  models::decode_tiles(
      z, config.tiles(), scale, [&](const Tensor& part) { return decoder(part); },
      [&](const Tensor& tile, std::int64_t top, std::int64_t left) {
        paste(backend.download(pixels_of(tile)), top, left, image);
      });
  return image;
}

}  // namespace dither
