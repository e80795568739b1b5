#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dither::quant {

/// NVFP4: E2M1 codes, two to a byte, one E4M3 scale per 16 weights of a row, one float32 scale per
/// tensor:  w[n, k] = e2m1(code[n, k]) * e4m3(weight_scale[n, k / 16]) * weight_scale_2.
inline constexpr std::int64_t kNvfp4BlockSize = 16;

/// Which nibble holds the even k: ModelOpt packs it low, BFL and Comfy files high.
enum class NibbleOrder : std::uint8_t { kLowFirst, kHighFirst };

/// How the block scales lie: row-major [N, K/16], or in the 128 x 4 tiles that Blackwell's tensor
/// cores read (rows padded to 128, columns to 4).
enum class ScaleLayout : std::uint8_t { kRowMajor, kSwizzled };

/// Bytes of the scales of an [N, K] weight in a layout.
std::size_t nvfp4_scale_bytes(std::int64_t rows, std::int64_t scale_cols, ScaleLayout layout);

/// Position of scale (row, col) in the swizzled layout of `scale_cols` columns:
///   ((r/128) * (Kp/4) + c/4) * 512 + (r%32) * 16 + ((r%128)/32) * 4 + c%4,  Kp = cols up to 4.
/// Source: the block-scaling layout of the cuBLAS documentation.
std::size_t nvfp4_swizzled_index(std::int64_t row, std::int64_t col, std::int64_t scale_cols);

/// A packed weight. Spans must have the sizes that rows, cols and layout call for.
struct Nvfp4Weight {
  std::span<const std::uint8_t> codes;   ///< [N, K/2]
  std::span<const std::uint8_t> scales;  ///< E4M3
  float weight_scale_2 = 1.0F;
  std::int64_t rows = 0;  ///< N
  std::int64_t cols = 0;  ///< K, a multiple of 16
  NibbleOrder nibbles = NibbleOrder::kLowFirst;
  ScaleLayout layout = ScaleLayout::kRowMajor;
};

/// out[n, k] = e2m1 * e4m3, exact in float32 and in bfloat16 (at most 6 significant bits). The
/// tensor's own scale is left to the caller: weight-only kernels apply it in the epilogue.
/// Throws kInvalidArgument when a span's size does not fit.
void nvfp4_expand(const Nvfp4Weight& weight, std::span<float> out);

}  // namespace dither::quant
