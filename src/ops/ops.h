#pragma once

#include <initializer_list>
#include <optional>
#include <span>

#include "ops/backend.h"
#include "ops/types.h"
#include "tensor/tensor.h"

/// The vocabulary that models are written in. Every function checks its shapes (kInvalidArgument
/// naming the op and the operand), allocates its result on the first operand's backend and runs
/// that backend's kernel. Activations are kF32 or kBF16; results have the first operand's dtype.
/// Letters: B batch, L tokens, D width, H heads, N and K as in weights [N, K]. "..." stands for
/// any leading dimensions.
namespace dither::ops {

/// The backend on which a tensor lives. Throws kInvalidArgument for host tensors.
Backend& backend_of(const Tensor& tensor);

/// residual + gate * activation(x W^T + b).  x [..., K] -> [..., N].
/// gate [B, N], F32 too, needs x [B, L, K]; residual [..., N]. x may hold E4M3 codes where
/// weights.e4m3_input() says so.
Tensor linear(const Tensor& x, const PreparedLinear& weights, const LinearEpilogue& epilogue = {});

/// A residual stream, and its norm for whatever reads it next.
struct NormedStream {
  Tensor x;           ///< [B, L, D]
  Tensor normalized;  ///< [B, L, D], or E4M3 codes
};

/// linear() of x [B, L, K], and the norm of its result: one pass over it where a backend can.
NormedStream linear_norm(const Tensor& x, const PreparedLinear& weights,
                         const LinearEpilogue& epilogue, const ModulatedNorm& norm);

/// (x - mean) / sqrt(var + eps) * weight + bias over the last dimension.  x [..., D]; weight and
/// bias [D] in x's dtype, or both absent.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps);

/// (1 + scale) * LayerNorm(x) + shift, LayerNorm without weights: AdaLN of DiT (Peebles & Xie
/// 2023).  x [B, L, D], shift and scale [B, D], or [1, D] for all samples, both in x's dtype or
/// both F32 -> [B, L, D], or its E4M3 codes.
Tensor layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale, float eps,
                           const Output& out = {});
inline Tensor layer_norm_modulate(const Tensor& x, const ModulatedNorm& norm) {
  return layer_norm_modulate(x, norm.shift, norm.scale, norm.eps, {.e4m3_scale = norm.e4m3_scale});
}

/// x * rsqrt(mean(x^2) + eps) * weight over the last dimension (Zhang & Sennrich 2019).
/// x [..., D], weight [D] in x's dtype.
Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps);

/// activation(GroupNorm(x)) over NHWC images (Wu & He 2018).  x [B, h, w, C], C divisible by
/// groups; weight and bias [C] in x's dtype.
Tensor group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias, float eps,
                  Activation activation);

/// activation(x / max(|x|, 1e-12) * sqrt(D) * weight), |x| the Euclidean norm over the last
/// dimension: the RMS norm over channels of the Wan autoencoders.  x [..., D], weight [D] in x's
/// dtype.
Tensor channel_norm(const Tensor& x, const Tensor& weight, Activation activation,
                    const Output& out = {});

/// Splits packed projections into heads, normalises q and k (RMS, own weights per stream) per head
/// or, with norms of [H D], over all heads of a token, rotates them and joins the streams along L
/// in the given order:
///   q_{2i}' = q_{2i} cos_i - q_{2i+1} sin_i,  q_{2i+1}' = q_{2i+1} cos_i + q_{2i} sin_i.
/// Streams [B, L_s, 3 H D] (strided rows allowed), rope [sum L_s, D/2] -> q, k, v
/// [B, sum L_s, H, D]. The projections are used up: where the streams lie one after the other in
/// one tensor, a backend may leave q, k and v in their places there.
/// As E4M3 codes for kE4m3 (bf16 streams, D a multiple of 16; kUnsupported on other backends);
/// sqrt(norm width) max |norm's weight| <= 448 keeps those of q and k from saturating.
AttentionOperands norm_rope_heads(std::span<const PackedQkv> streams, const Rope& rope,
                                  std::int64_t heads, float eps,
                                  AttentionPrecision precision = AttentionPrecision::kActivations);

/// norm_rope_heads() of the streams' projections, and gated_activation() of the columns behind
/// them. Where BackendTraits::fuses_projections the products' sums are not rounded before either.
/// A stream's x [B, L_s, K]; its gated.out.tensor [B, L_s, F].
AttentionOperands project_heads(std::span<const HeadProjection> streams, const Rope& rope,
                                std::int64_t heads, float eps,
                                AttentionPrecision precision = AttentionPrecision::kActivations);

/// gated_activation(linear(x)), with sums as in project_heads().  x [..., K] -> [..., N / 2], or
/// its E4M3 codes.
Tensor gated_linear(const Tensor& x, const PreparedLinear& weights, const GatedColumns& columns);

/// softmax(scale * q k^T + bias) v.  q [B, Lq, H, D], k and v [B, Lk, H, D] with unit stride in D
/// -> [B, Lq, H D], or its E4M3 codes, those of the first tokens by another scale if so wished.
Tensor attention(const AttentionOperands& in, const AttentionOptions& options);

/// Convolution plus bias, plus `residual` where given, of x or, where the weights say so, of
/// upsample_nearest2x(x).  x [B, h, w, C_in] -> [B, h', w', C_out].
Tensor conv2d(const Tensor& x, const PreparedConv2d& weights, const Tensor& residual = {});

/// Convolution over frames, rows and columns plus bias, plus `residual` where given. Nothing is
/// padded in time: a causal convolution gets its kt - 1 earlier frames in front of x.
/// x [B, F, h, w, C_in] -> [B, (F - kt) / stride_t + 1, h', w', C_out].
/// Or x has Backend::conv3d_row_channels(C_in, dtype) channels: those behind the C_in are room that
/// the backend may overwrite, whatever is in it.
Tensor conv3d(const Tensor& x, const PreparedConv3d& weights, const Tensor& residual = {});

/// Every pixel becomes 2 x 2 pixels.  x [B, h, w, C] -> [B, 2h, 2w, C].
Tensor upsample_nearest2x(const Tensor& x);

/// -1..1 as 8-bit levels: round(255 clamp(x / 2 + 1/2, 0, 1)), ties to even, NaN 0, in float32
/// whatever x's dtype.  x any shape -> the same shape, kU8.
Tensor to_pixels(const Tensor& x);

/// Rows of a table.  table [V, D], ids [B, L] kI32, each in [0, V) -> [B, L, D].
Tensor embedding(const Tensor& table, const Tensor& ids);

/// activation(x), any shape.
Tensor activate(const Tensor& x, Activation activation);

/// activation(a) * b with x = [a | b] along the last dimension (GLU family, Shazeer 2020).
/// x [..., 2F] -> [..., F], or its E4M3 codes.
Tensor gated_activation(const Tensor& x, Activation activation, const Output& out = {});

/// a + b; b's shape is a's or a suffix of it ([L, D] onto [B, L, D]).
Tensor add(const Tensor& a, const Tensor& b);

/// x + factor * v, same shapes: a scheduler's step, and guidance u + g (c - u) from its parts.
Tensor add_scaled(const Tensor& x, const Tensor& v, float factor);

/// factor * x + offset.
Tensor affine(const Tensor& x, float factor, float offset);

/// Uninitialised, on `like`'s backend, in its dtype or another.
Tensor empty_like(const Tensor& like, const Shape& shape, std::optional<DType> dtype = {});

/// Joins tensors along a dimension; the other extents agree.
Tensor concat(std::span<const Tensor> tensors, int dim);
inline Tensor concat(std::initializer_list<Tensor> tensors, int dim) {
  return concat(std::span(tensors.begin(), tensors.size()), dim);
}

/// to[...] = from[...] for two strided tensors of one shape, dtype and device.
void copy(const Tensor& from, const Tensor& to);

/// A contiguous copy of any strided view; the tensor itself when it is contiguous already.
Tensor contiguous(const Tensor& x);

/// The same values in another dtype; the tensor itself when it has it already.
Tensor cast(const Tensor& x, DType dtype);

}  // namespace dither::ops
