#include "pipelines/decoded_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "ops/ops.h"

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

void paste(const Tensor& pixels, std::int64_t top, std::int64_t left, Image& image) {
  const Image part = to_image(pixels);
  if (top < 0 || left < 0 || top + part.height > image.height || left + part.width > image.width ||
      image.channels != part.channels) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("paste: {} x {} pixels at ({}, {}) leave a picture of {} x {}",
                            part.width, part.height, left, top, image.width, image.height));
  }
  for (int y = 0; y < part.height; ++y) {
    std::copy_n(part.row(y), part.row_bytes(),
                image.row(static_cast<int>(top) + y) + left * image.channels);
  }
}

Image decode_picture(const models::AutoencoderKlDecoder& decoder,
                     const models::AutoencoderKlConfig& config, const Tensor& z, bool tiling) {
  ops::Backend& backend = ops::backend_of(z);
  const auto pixels_of = [&](const Tensor& decoded) {
    return backend.download(ops::to_pixels(ops::contiguous(decoded)));
  };
  if (!tiling || !models::exceeds(config.tiles(), z)) return to_image(pixels_of(decoder(z)));
  const std::int64_t scale = config.vae_scale_factor();
  Image image =
      solid_image(static_cast<int>(z.dim(2) * scale), static_cast<int>(z.dim(1) * scale), 0);
  models::decode_tiles(
      z, config.tiles(), scale, [&](const Tensor& part) { return decoder(part); },
      [&](const Tensor& tile, std::int64_t top, std::int64_t left) {
        paste(pixels_of(tile), top, left, image);
      });
  return image;
}

}  // namespace dither
