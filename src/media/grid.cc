#include "media/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "base/error.h"

namespace dither {

Image make_grid(std::span<const Image> images, int columns, int padding, std::uint8_t background) {
  if (images.empty() || columns < 1 || padding < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a grid of {} images in {} columns with {} pixels of padding",
                            images.size(), columns, padding));
  }
  const Image& first = images.front();
  for (const Image& image : images) {
    if (image.width != first.width || image.height != first.height || image.channels != 3) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("a grid needs RGB images of one size, has {}x{}x{} and {}x{}x{}", first.width,
                      first.height, first.channels, image.width, image.height, image.channels));
    }
  }
  const int count = static_cast<int>(images.size());
  columns = std::min(columns, count);
  const int rows = (count + columns - 1) / columns;
  Image grid = solid_image(columns * (first.width + padding) + padding,
                           rows * (first.height + padding) + padding, background);
  for (int i = 0; i < count; ++i) {
    const int left = padding + i % columns * (first.width + padding);
    const int top = padding + i / columns * (first.height + padding);
    for (int y = 0; y < first.height; ++y) {
      const std::uint8_t* source = images[static_cast<std::size_t>(i)].row(y);
      std::copy_n(source, first.row_bytes(),
                  grid.row(top + y) + 3 * static_cast<std::ptrdiff_t>(left));
    }
  }
  return grid;
}

}  // namespace dither
