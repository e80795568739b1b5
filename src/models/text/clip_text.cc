#include "models/text/clip_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "models/config_check.h"
#include "models/text/token_ids.h"
#include "nn/attention.h"
#include "ops/region.h"

namespace dither::models {
namespace {

constexpr std::string_view kPrefixProbe = "text_model.final_layer_norm.weight";

std::optional<ops::Activation> activation_named(std::string_view name) {
  if (name == "quick_gelu") return ops::Activation::kQuickGelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return ops::Activation::kGeluTanh;
  return std::nullopt;
}

nn::WeightScope text_model(const nn::WeightScope& scope) {
  return scope.has(kPrefixProbe) ? scope / "text_model" : scope;
}

}  // namespace

void ClipTextConfig::validate() const {
  const ConfigCheck check("CLIP text encoder");
  check.extent("vocab_size", vocab_size);
  check.extent("hidden_size", hidden_size);
  check.extent("intermediate_size", intermediate_size);
  check.extent("num_hidden_layers", num_hidden_layers, ConfigCheck::kMaxLayers);
  check.extent("num_attention_heads", num_attention_heads);
  check.extent("max_position_embeddings", max_position_embeddings);
  check.multiple("hidden_size", hidden_size, num_attention_heads, "num_attention_heads");
  check.positive("layer_norm_eps", layer_norm_eps);
  check.supported(
      activation_named(hidden_act).has_value(),
      fmt::format("hidden_act '{}' is not supported, only quick_gelu and gelu_new", hidden_act));
}

nn::TensorTable clip_text_table(const ClipTextConfig& config, const TensorSource& source) {
  const std::string prefix = source.find(kPrefixProbe) != nullptr ? "text_model." : "";
  const std::int64_t width = config.hidden_size;
  nn::TensorTable table;
  table.add(prefix + "embeddings.token_embedding.weight", {config.vocab_size, width});
  table.add(prefix + "embeddings.position_embedding.weight",
            {config.max_position_embeddings, width});
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const std::string layer = fmt::format("{}encoder.layers.{}.", prefix, i);
    table.add_norm(layer + "layer_norm1", width);
    for (const char* projection : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
      table.add_linear(layer + "self_attn." + projection, width, width);
    }
    table.add_norm(layer + "layer_norm2", width);
    table.add_linear(layer + "mlp.fc1", config.intermediate_size, width);
    table.add_linear(layer + "mlp.fc2", width, config.intermediate_size);
  }
  table.add_norm(prefix + "final_layer_norm", width);
  table.ignore(prefix + "embeddings.position_ids");
  return table;
}

ClipTextLayer::ClipTextLayer(const nn::WeightScope& scope, const ClipTextConfig& config)
    : heads_(config.num_attention_heads),
      scale_(std::sqrt(static_cast<float>(heads_) / static_cast<float>(config.hidden_size))),
      activation_(activation_named(config.hidden_act).value()),
      layer_norm1_(scope / "layer_norm1", static_cast<float>(config.layer_norm_eps)),
      qkv_proj_({scope / "self_attn" / "q_proj", scope / "self_attn" / "k_proj",
                 scope / "self_attn" / "v_proj"}),
      out_proj_(scope / "self_attn" / "out_proj"),
      layer_norm2_(scope / "layer_norm2", static_cast<float>(config.layer_norm_eps)),
      fc1_(scope / "mlp" / "fc1"),
      fc2_(scope / "mlp" / "fc2") {}

Tensor ClipTextLayer::operator()(const Tensor& x) const {
  const auto qkv = nn::split_heads(qkv_proj_(layer_norm1_(x)), heads_);
  const Tensor attended = ops::attention(qkv, {.scale = scale_, .causal = true});
  const Tensor y = out_proj_(attended, {.residual = x});
  return fc2_(fc1_(layer_norm2_(y), activation_), {.residual = y});
}

ClipTextEncoder::ClipTextEncoder(const nn::WeightScope& scope, const ClipTextConfig& config)
    : config_(config),
      backend_(&scope.backend()),
      token_embedding_(text_model(scope) / "embeddings" / "token_embedding"),
      position_embedding_(
          (text_model(scope) / "embeddings" / "position_embedding").upload("weight")),
      final_layer_norm_(text_model(scope) / "final_layer_norm",
                        static_cast<float>(config.layer_norm_eps)) {
  const nn::WeightScope layers = text_model(scope) / "encoder" / "layers";
  for (int i = 0; i < config.num_hidden_layers; ++i) layers_.emplace_back(layers / i, config);
}

ClipTextOutput ClipTextEncoder::operator()(const Tensor& ids) const {
  const Tensor device_ids =
      upload_token_ids(ids, config_.vocab_size, "CLIP text encoder", *backend_);
  const std::int64_t batch = ids.dim(0);
  const std::int64_t length = ids.dim(1);
  if (length > config_.max_position_embeddings) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("CLIP text encoder: {} tokens, the model has {} positions", length,
                            config_.max_position_embeddings));
  }
  Tensor x = ops::add(token_embedding_(device_ids), position_embedding_.slice(0, 0, length));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const ops::Region region(*backend_, fmt::format("text_model.encoder.layers.{}", i));
    x = layers_[i](x);
  }
  x = final_layer_norm_(x);

  const std::int64_t width = config_.hidden_size;
  const Tensor rows = backend_->upload(clip_pooled_rows(ids, config_.eos_token_id), DType::kI32);
  return {x, ops::embedding(x.reshape({batch * length, width}), rows).reshape({batch, width})};
}

Tensor clip_pooled_rows(const Tensor& ids, std::int32_t eos_token_id) {
  constexpr std::int32_t kLegacyEosTokenId = 2;
  const std::int64_t length = ids.dim(1);
  Tensor rows = Tensor::host({ids.dim(0), 1}, DType::kI32);
  for (std::int64_t b = 0; b < ids.dim(0); ++b) {
    const auto* begin = ids.data<std::int32_t>() + b * length;
    const auto* end = begin + length;
    const auto* position = eos_token_id == kLegacyEosTokenId ? std::max_element(begin, end)
                                                             : std::find(begin, end, eos_token_id);
    if (position == end) position = begin;
    rows.data<std::int32_t>()[b] = static_cast<std::int32_t>(b * length + (position - begin));
  }
  return rows;
}

}  // namespace dither::models
