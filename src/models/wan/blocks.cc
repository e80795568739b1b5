#include "models/wan/blocks.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "models/flux/joint_attention.h"
#include "quant/e4m3_weight.h"
#include "tensor/host_floats.h"

namespace dither::models {
namespace {

/// The weight of a norm over all heads, and the power of two that was taken out of it.
struct BoundedNorm {
  Tensor weight;  ///< [H D]
  float factor;
};

/// Of the RMSNorm at `scope`, so that what it makes fits into E4M3.
BoundedNorm bounded_norm(const nn::WeightScope& scope) {
  const Tensor stored = scope.host("weight");
  Tensor weight = Tensor::host(stored.shape(), DType::kF32);
  const std::span values(weight.data<float>(), static_cast<std::size_t>(weight.elements()));
  read_floats(stored, 0, values);
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  const float bound = largest * std::sqrt(static_cast<float>(weight.elements()));
  const float factor = std::ldexp(1.0F, std::max(0, quant::e4m3_exponent(bound)));
  for (float& value : values) value /= factor;
  return {scope.backend().upload(weight, scope.dtype()), factor};
}

float softmax_scale(const WanConfig& config) {
  return 1.0F / std::sqrt(static_cast<float>(config.attention_head_dim));
}

}  // namespace

WanTextProjection::WanTextProjection(const nn::WeightScope& block, const WanConfig& /*config*/)
    : to_kv_({block / "attn2.to_k", block / "attn2.to_v"}),
      norm_k_(block / "attn2.norm_k", kFluxNormEps) {}

void WanTextProjection::operator()(const Tensor& c, const Tensor& keys,
                                   const Tensor& values) const {
  const Tensor kv = to_kv_(c);
  const std::int64_t width = c.dim(2);
  ops::Backend& backend = ops::backend_of(c);
  backend.copy(norm_k_(kv.slice(-1, 0, width)), keys);
  backend.copy(kv.slice(-1, width, 2 * width), values);
}

WanSelfAttention::WanSelfAttention(const nn::WeightScope& scope, const WanConfig& config)
    : heads_(config.num_attention_heads),
      scale_(softmax_scale(config)),
      to_qkv_({scope / "to_q", scope / "to_k", scope / "to_v"}),
      to_out_(scope / "to_out.0") {
  const auto [q_weight, q_factor] = bounded_norm(scope / "norm_q");
  const auto [k_weight, k_factor] = bounded_norm(scope / "norm_k");
  norm_q_ = q_weight;
  norm_k_ = k_weight;
  scale_ *= q_factor * k_factor;
}

ops::NormedStream WanSelfAttention::operator()(ops::NormedStream x, const Tensor& gate,
                                               const ops::ModulatedNorm& next,
                                               const ops::Rope& rope,
                                               ops::AttentionPrecision precision) const {
  const auto heads = [&] {
    const Tensor projected = to_qkv_(std::exchange(x.normalized, {}));
    const ops::PackedQkv packed{projected.reshape({-1, rope.cos.dim(0), projected.dim(2)}), norm_q_,
                                norm_k_};
    return ops::norm_rope_heads({&packed, 1}, rope, heads_, kFluxNormEps, precision);
  };
  const Tensor attended =
      ops::attention(heads(), {.scale = scale_, .out = {.e4m3_scale = to_out_.codes()}});
  return to_out_(attended.reshape(x.x.shape()), {.gate = gate, .residual = x.x}, next);
}

WanCrossAttention::WanCrossAttention(const nn::WeightScope& block, const WanConfig& config)
    : heads_(config.num_attention_heads),
      to_q_(block / "attn2.to_q"),
      norm_q_(block / "attn2.norm_q", kFluxNormEps),
      to_out_(block / "attn2.to_out.0") {
  const nn::WeightScope norm2 = (block / "norm2").with_dtype(DType::kF32);
  shift_ = norm2.upload("bias").reshape({1, config.width()});
  scale_ = ops::affine(norm2.upload("weight"), 1, -1).reshape({1, config.width()});
}

ops::ModulatedNorm WanCrossAttention::norm() const {
  return norm_for(to_q_, {.shift = shift_, .scale = scale_, .gate = {}});
}

ops::NormedStream WanCrossAttention::operator()(ops::NormedStream x, const WanText& text,
                                                const ops::ModulatedNorm& next) const {
  Tensor q = to_q_(std::exchange(x.normalized, {}));
  q = norm_q_(q).reshape({text.k.dim(0), -1, heads_, text.k.dim(3)});
  const Tensor attended =
      attend({std::exchange(q, {}), text.k, text.v, {}}, {.e4m3_scale = to_out_.codes()});
  return to_out_(attended.reshape(x.x.shape()), {.residual = x.x}, next);
}

WanBlock::WanBlock(const nn::WeightScope& scope, const WanConfig& config)
    : width_(config.width()),
      attn1_(scope / "attn1", config),
      attn2_(scope, config),
      ffn_in_(scope / "ffn.net.0.proj"),
      ffn_out_(scope / "ffn.net.2") {}

ops::ModulatedNorm WanBlock::norm(const Tensor& vectors) const {
  return attn1_.norm(modulation_at(vectors, 0, width_));
}

ops::NormedStream WanBlock::operator()(ops::NormedStream x, const Tensor& vectors,
                                       const WanText& text, const ops::ModulatedNorm& next,
                                       const ops::Rope& rope,
                                       ops::AttentionPrecision precision) const {
  const Modulation attention = modulation_at(vectors, 0, width_);
  const Modulation feed_forward = modulation_at(vectors, 1, width_);
  x = attn1_(std::move(x), attention.gate, attn2_.norm(), rope, precision);
  x = attn2_(std::move(x), text, norm_for(ffn_in_, feed_forward));
  const Tensor hidden =
      ffn_in_(std::exchange(x.normalized, {}),
              {.activation = ops::Activation::kGeluTanh, .out = {.e4m3_scale = ffn_out_.codes()}});
  return ffn_out_(hidden, {.gate = feed_forward.gate, .residual = x.x}, next);
}

}  // namespace dither::models
