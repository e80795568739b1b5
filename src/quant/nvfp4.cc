#include "quant/nvfp4.h"

#include <fmt/format.h>

#include "base/error.h"
#include "tensor/float8.h"

namespace dither::quant {
namespace {

constexpr std::int64_t kTileRows = 128;
constexpr std::int64_t kTileCols = 4;

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

std::size_t nvfp4_scale_bytes(std::int64_t rows, std::int64_t scale_cols, ScaleLayout layout) {
  if (layout == ScaleLayout::kRowMajor) return static_cast<std::size_t>(rows * scale_cols);
  return static_cast<std::size_t>(round_up(rows, kTileRows) * round_up(scale_cols, kTileCols));
}

std::size_t nvfp4_swizzled_index(std::int64_t row, std::int64_t col, std::int64_t scale_cols) {
  const std::int64_t tiles_per_row = round_up(scale_cols, kTileCols) / kTileCols;
  const std::int64_t tile = row / kTileRows * tiles_per_row + col / kTileCols;
  return static_cast<std::size_t>(tile * kTileRows * kTileCols + row % 32 * 16 +
                                  row % kTileRows / 32 * 4 + col % kTileCols);
}

void nvfp4_expand(const Nvfp4Weight& weight, std::span<float> out) {
  const std::int64_t scale_cols = weight.cols / kNvfp4BlockSize;
  const auto elements = static_cast<std::size_t>(weight.rows * weight.cols);
  if (weight.cols % kNvfp4BlockSize != 0 || weight.codes.size() * 2 != elements ||
      weight.scales.size() != nvfp4_scale_bytes(weight.rows, scale_cols, weight.layout) ||
      out.size() != elements) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("NVFP4 [{}, {}]: {} bytes of codes and {} of scales do not fit",
                            weight.rows, weight.cols, weight.codes.size(), weight.scales.size()));
  }
  const unsigned even_shift = weight.nibbles == NibbleOrder::kLowFirst ? 0 : 4;
  const unsigned odd_shift = 4 - even_shift;
  for (std::int64_t n = 0; n < weight.rows; ++n) {
    for (std::int64_t block = 0; block < scale_cols; ++block) {
      const std::size_t at = weight.layout == ScaleLayout::kRowMajor
                                 ? static_cast<std::size_t>(n * scale_cols + block)
                                 : nvfp4_swizzled_index(n, block, scale_cols);
      const float scale = kE4M3Values[weight.scales[at]];
      const auto first = static_cast<std::size_t>(n * weight.cols + block * kNvfp4BlockSize);
      for (std::size_t k = first; k < first + kNvfp4BlockSize; k += 2) {
        const unsigned packed = weight.codes[k / 2];
        out[k] = kE2M1Values[(packed >> even_shift) & 15U] * scale;
        out[k + 1] = kE2M1Values[(packed >> odd_shift) & 15U] * scale;
      }
    }
  }
}

}  // namespace dither::quant
