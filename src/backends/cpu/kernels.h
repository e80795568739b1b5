#pragma once

#include <cstdint>

#include "ops/types.h"
#include "tensor/tensor.h"

/// Vector kernels, compiled for SSSE3, SSE4, AVX2 and AVX-512 besides plain scalar code; the
/// processor decides at run time. Operands are float32 or bfloat16 (`dtype`), arithmetic is
/// float32, the result is rounded once. A kernel runs on the calling thread over the range it is
/// given, so callers decide about threads.
namespace dither::cpu {

/// y = norm(x) * (scale_offset + scale) + shift for rows of `x`. scale and shift hold one row of
/// x.cols values per `rows_per_sample` rows; null: 1 and 0.
struct NormArgs {
  RowView x;
  RowView y;
  DType dtype = DType::kF32;
  DType scale_dtype = DType::kF32;  ///< of scale and shift: dtype or kF32
  float eps = 0;
  RowView scale;
  RowView shift;
  float scale_offset = 0;
  std::int64_t rows_per_sample = 1;
};
void layer_norm_rows(const NormArgs& args, std::int64_t begin, std::int64_t end);
void rms_norm_rows(const NormArgs& args, std::int64_t begin, std::int64_t end);  // shift unused

/// y = activation(x / max(|x|, 1e-12) * sqrt(cols) * weight) per row.
struct ChannelNormArgs {
  RowView x;
  RowView y;
  DType dtype = DType::kF32;
  const std::byte* weight = nullptr;  ///< [cols] of dtype
  ops::Activation activation = ops::Activation::kNone;
};
void channel_norm_rows(const ChannelNormArgs& args, std::int64_t begin, std::int64_t end);

/// One stream of ops::norm_rope_heads; q, k, v point at the stream's first token.
struct RopeArgs {
  RowView qkv;              ///< [B L, 3 H D]
  std::int64_t tokens = 0;  ///< L of this stream
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
  DType dtype = DType::kF32;
  const std::byte* q_norm = nullptr;  ///< [norm_width] of dtype
  const std::byte* k_norm = nullptr;
  std::int64_t norm_width = 0;  ///< head_dim, or all heads
  const float* cos = nullptr;   ///< [L, D/2], the stream's rows
  const float* sin = nullptr;
  float eps = 0;
  std::byte* q = nullptr;
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  std::int64_t sample_stride = 0;  ///< elements from one sample to the next in q, k and v
};
void norm_rope_rows(const RopeArgs& args, std::int64_t begin, std::int64_t end);

/// Mean and sum of squared deviations of `count` values (Welford 1962, Chan et al. 1979).
struct Moments {
  double count = 0;
  double mean = 0;
  double m2 = 0;

  void merge(const Moments& other);
};

/// NHWC pixels of one sample for group norm.
struct GroupNormArgs {
  const std::byte* x = nullptr;  ///< [pixels, channels] of dtype
  std::byte* y = nullptr;
  DType dtype = DType::kF32;
  std::int64_t channels = 0;
  std::int64_t groups = 0;
  ops::Activation activation = ops::Activation::kNone;
};
/// Adds pixels [begin, end) to moments[groups].
void group_moments(const GroupNormArgs& args, std::int64_t begin, std::int64_t end,
                   Moments* moments);
/// y = activation((x - mean) * scale + shift), all three [channels] float32.
void group_norm_pixels(const GroupNormArgs& args, const float* mean, const float* scale,
                       const float* shift, std::int64_t begin, std::int64_t end);

/// y = activation(x); with `b`, y = activation(x) * b. Rows [begin, end).
struct ActivateArgs {
  RowView x;
  RowView b;  ///< data null: absent
  RowView y;
  DType dtype = DType::kF32;
  ops::Activation activation = ops::Activation::kNone;
};
void activate_rows(const ActivateArgs& args, std::int64_t begin, std::int64_t end);

/// y = factor * x + other_factor * other + offset over contiguous elements; `other` may be null.
struct AxpbyArgs {
  const std::byte* x = nullptr;
  const std::byte* other = nullptr;
  std::byte* y = nullptr;
  DType dtype = DType::kF32;
  float factor = 1;
  float other_factor = 1;
  float offset = 0;
};
void axpby(const AxpbyArgs& args, std::int64_t begin, std::int64_t end);

/// Contiguous conversion between the two activation dtypes.
void convert(const float* from, bf16* to, std::int64_t count);
void convert(const bf16* from, float* to, std::int64_t count);

/// x as E4M3 codes: e4m3(clamp(f32(x) * reciprocal, +-448)), NaN stays NaN, bit for bit what
/// quant::quantize_activation_e4m3 computes. The codes are written as their values, which float32
/// and bfloat16 hold exactly: operands of a product.
struct QuantizeArgs {
  RowView x;
  DType dtype = DType::kF32;  ///< of x
  RowView codes;
  DType codes_dtype = DType::kF32;
  float reciprocal = 1;  ///< float32(1 / input_scale)
};
void quantize_e4m3_rows(const QuantizeArgs& args, std::int64_t begin, std::int64_t end);

/// values[i] = value(codes[i]) in `dtype`, exact.
void expand_e4m3(const std::uint8_t* codes, std::byte* values, DType dtype, std::int64_t count);
/// The inverse, for values that are E4M3 numbers.
void narrow_e4m3(const std::byte* values, DType dtype, std::uint8_t* codes, std::int64_t count);

/// Element strides of one attention operand [B, L, H, D].
struct HeadsView {
  const std::byte* data = nullptr;
  std::int64_t sample_stride = 0;
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;
};
struct AttentionArgs {
  HeadsView q;
  HeadsView k;
  HeadsView v;
  const float* bias = nullptr;  ///< [H, Lq, Lk]
  std::byte* y = nullptr;       ///< [B, Lq, H D]
  DType dtype = DType::kF32;
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
  float scale = 1;
  bool causal = false;
};
/// Floats of scratch that attention_head() needs.
std::int64_t attention_scratch(const AttentionArgs& args);
/// Queries [begin, end) of one head of one sample. `scratch` is 64-byte aligned.
void attention_head(const AttentionArgs& args, std::int64_t sample, std::int64_t head,
                    std::int64_t begin, std::int64_t end, float* scratch);

}  // namespace dither::cpu
