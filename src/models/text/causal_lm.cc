#include "models/text/causal_lm.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "models/text/causal_lm_prefix.h"
#include "models/text/token_ids.h"
#include "ops/ops.h"

namespace dither::models {
namespace {

float epsilon(const CausalLmConfig& config) { return static_cast<float>(config.rms_norm_eps); }

/// The scope of the language model itself: "model" of "model.embed_tokens.weight".
nn::WeightScope language_model(const nn::WeightScope& scope) {
  const std::string_view prefix =
      causal_lm_prefix([&](const std::string& name) { return scope.has(name); });
  return prefix.empty() ? scope : scope / prefix.substr(0, prefix.size() - 1);
}

/// [1, R, H, D] -> [1, R, H groups, D], every head `groups` times in a row.
Tensor repeat_heads(const Tensor& x, std::int64_t groups) {
  if (groups == 1) return x;
  const std::vector<Tensor> copies(static_cast<std::size_t>(groups), x.unflatten(2, x.dim(2), 1));
  return ops::concat(copies, 3).reshape({x.dim(0), x.dim(1), x.dim(2) * groups, x.dim(3)});
}

void check_range(const Tensor& ids, const TokenRange& real) {
  if (ids.rank() == 2 && ids.dim(0) == 1 && real.first >= 0 && real.count > 0 &&
      real.count <= ids.dim(1) - real.first) {
    return;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("language model: tokens {}..{} of {}", real.first,
                          real.first + real.count, to_string(ids)));
}

}  // namespace

CausalLmLayer::CausalLmLayer(const nn::WeightScope& scope, const CausalLmConfig& config)
    : heads_(config.num_attention_heads),
      key_value_heads_(config.num_key_value_heads),
      head_dim_(config.head_dim),
      eps_(epsilon(config)),
      input_layernorm_(scope / "input_layernorm", epsilon(config)),
      qkv_proj_(
          {scope / "self_attn.q_proj", scope / "self_attn.k_proj", scope / "self_attn.v_proj"}),
      o_proj_(scope / "self_attn.o_proj"),
      post_attention_layernorm_(scope / "post_attention_layernorm", epsilon(config)),
      gate_up_proj_({scope / "mlp.gate_proj", scope / "mlp.up_proj"}),
      down_proj_(scope / "mlp.down_proj") {
  if (!config.qk_norm) return;
  q_norm_ = (scope / "self_attn.q_norm").upload("weight");
  k_norm_ = (scope / "self_attn.k_norm").upload("weight");
}

Tensor CausalLmLayer::operator()(const Tensor& x, const HalfRotary& rotary,
                                 const TokenRange& real) const {
  const Tensor y = o_proj_(attend(input_layernorm_(x), rotary, real), {.residual = x});
  const Tensor gated =
      ops::gated_activation(gate_up_proj_(post_attention_layernorm_(y)), ops::Activation::kSilu);
  return down_proj_(gated, {.residual = y});
}

/// -> [1, R, H D].
Tensor CausalLmLayer::attend(const Tensor& x, const HalfRotary& rotary,
                             const TokenRange& real) const {
  const Tensor qkv = qkv_proj_(x);
  const auto heads = [&](std::int64_t first, std::int64_t count) {
    return qkv.slice(-1, first * head_dim_, (first + count) * head_dim_)
        .unflatten(-1, count, head_dim_);
  };
  const auto rotated = [&](const Tensor& t, const Tensor& norm) {
    return rotary(norm.defined() ? ops::rms_norm(t, norm, eps_) : t);
  };
  const std::int64_t end = real.first + real.count;
  const auto prompt = [&](const Tensor& t) { return t.slice(1, real.first, end); };
  const std::int64_t groups = heads_ / key_value_heads_;
  const Tensor q = rotated(heads(0, heads_), q_norm_);
  const Tensor k = prompt(repeat_heads(rotated(heads(heads_, key_value_heads_), k_norm_), groups));
  const Tensor v = prompt(repeat_heads(heads(heads_ + key_value_heads_, key_value_heads_), groups));

  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim_));
  std::vector<Tensor> parts;
  if (real.first > 0) {
    const Tensor nothing = Tensor::host({1, real.first, heads_ * head_dim_}, DType::kF32);
    parts.push_back(ops::backend_of(x).upload(nothing, x.dtype()));
  }
  parts.push_back(ops::attention({prompt(q), k, v, {}}, {.scale = scale, .causal = true}));
  if (end < x.dim(1)) {
    parts.push_back(ops::attention({q.slice(1, end, x.dim(1)), k, v, {}}, {.scale = scale}));
  }
  return parts.size() == 1 ? parts.front() : ops::concat(parts, 1);
}

CausalLmEncoder::CausalLmEncoder(const nn::WeightScope& scope, const CausalLmConfig& config)
    : config_(config),
      backend_(&scope.backend()),
      dtype_(scope.dtype()),
      embed_tokens_(language_model(scope) / "embed_tokens"),
      sequence_(scope, kCausalLmLayers, config.used_layers()) {
  const nn::WeightScope layers = language_model(scope) / "layers";
  for (int i = 0; i < config.used_layers(); ++i) {
    sequence_.add([&] { layers_.emplace_back(layers / i, config); });
  }
}

Tensor CausalLmEncoder::operator()(const Tensor& ids, const TokenRange& real) const {
  check_range(ids, real);
  // Padding in front sees nothing, so all of its rows are alike: one stands for them.
  const std::int64_t skipped = std::max<std::int64_t>(real.first - 1, 0);
  const std::int64_t length = ids.dim(1);
  const TokenRange rows{.first = real.first - skipped, .count = real.count};
  std::vector<std::int64_t> positions;
  for (std::int64_t i = skipped; i < length; ++i) positions.push_back(i);
  const HalfRotary rotary(positions,
                          {.heads = config_.num_attention_heads,
                           .head_dim = config_.head_dim,
                           .theta = config_.rope_theta},
                          dtype_, *backend_);

  Tensor x = embed_tokens_(upload_token_ids(ids.slice(1, skipped, length), config_.vocab_size,
                                            "language model", *backend_));
  std::vector<Tensor> outputs;
  nn::LayerSequence::Pass pass(sequence_);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    x = pass.run(fmt::format("layers.{}", i), [&] { return layers_[i](x, rotary, rows); });
    const auto done = static_cast<std::int64_t>(i) + 1;
    if (std::ranges::find(config_.output_layers, done) != config_.output_layers.end()) {
      outputs.push_back(x);
    }
  }
  Tensor embeds = ops::concat(outputs, -1);
  if (skipped == 0) return embeds;
  const Tensor order = Tensor::host({1, length}, DType::kI32);
  for (std::int64_t i = 0; i < length; ++i) {
    order.data<std::int32_t>()[i] =
        static_cast<std::int32_t>(std::max(i - skipped, std::int64_t{0}));
  }
  return ops::embedding(embeds.reshape({embeds.dim(1), embeds.dim(2)}),
                        backend_->upload(order, DType::kI32));
}

}  // namespace dither::models
