#include <fmt/format.h>

#include <string>

#include "models/config_check.h"
#include "models/text/causal_lm.h"
#include "models/text/causal_lm_prefix.h"

namespace dither::models {

void CausalLmConfig::validate() const {
  const ConfigCheck check("language model");
  check.extent("vocab_size", vocab_size);
  check.extent("hidden_size", hidden_size);
  check.extent("intermediate_size", intermediate_size);
  check.extent("num_hidden_layers", num_hidden_layers, ConfigCheck::kMaxLayers);
  check.extent("num_attention_heads", num_attention_heads);
  check.extent("num_key_value_heads", num_key_value_heads);
  check.extent("head_dim", head_dim);
  check.multiple("head_dim", head_dim, 2, "a pair of channels");
  check.multiple("num_attention_heads", num_attention_heads, num_key_value_heads,
                 "num_key_value_heads");
  check.extent("num_attention_heads x head_dim", num_attention_heads * head_dim);
  check.positive("rope_theta", rope_theta);
  check.positive("rms_norm_eps", rms_norm_eps);
  // The stream after the last layer would be behind the final norm.
  check.supported(
      num_hidden_layers > used_layers(),
      fmt::format("num_hidden_layers {} is not supported: the prompt is read after "
                  "{}, {} and {} layers, with at least one more to come",
                  num_hidden_layers, output_layers[0], output_layers[1], output_layers[2]));
}

nn::TensorTable causal_lm_table(const CausalLmConfig& config, const TensorSource& source) {
  const std::string prefix(
      causal_lm_prefix([&](const std::string& name) { return source.find(name) != nullptr; }));
  const std::int64_t width = config.hidden_size;
  const std::int64_t queries = config.num_attention_heads * config.head_dim;
  const std::int64_t keys = config.num_key_value_heads * config.head_dim;
  nn::TensorTable table;
  table.add(prefix + "embed_tokens.weight", {config.vocab_size, width});
  for (std::int64_t i = 0; i < config.used_layers(); ++i) {
    const std::string layer = fmt::format("{}layers.{}.", prefix, i);
    table.in_layer(kCausalLmLayers, i);
    table.add(layer + "input_layernorm.weight", {width});
    table.add_linear(layer + "self_attn.q_proj", queries, width, false);
    table.add_linear(layer + "self_attn.k_proj", keys, width, false);
    table.add_linear(layer + "self_attn.v_proj", keys, width, false);
    table.add_linear(layer + "self_attn.o_proj", width, queries, false);
    if (config.qk_norm) {
      table.add(layer + "self_attn.q_norm.weight", {config.head_dim});
      table.add(layer + "self_attn.k_norm.weight", {config.head_dim});
    }
    table.add(layer + "post_attention_layernorm.weight", {width});
    table.add_linear(layer + "mlp.gate_proj", config.intermediate_size, width, false);
    table.add_linear(layer + "mlp.up_proj", config.intermediate_size, width, false);
    table.add_linear(layer + "mlp.down_proj", width, config.intermediate_size, false);
  }
  table.in_layer({});
  for (std::int64_t i = config.used_layers(); i < config.num_hidden_layers; ++i) {
    table.ignore(fmt::format("{}layers.{}.*", prefix, i));
  }
  table.ignore(prefix + "norm.weight");
  for (const char* pattern :
       {"lm_head.weight", "language_model.lm_head.weight", "vision_tower.*", "model.vision_tower.*",
        "multi_modal_projector.*", "model.multi_modal_projector.*"}) {
    table.ignore(pattern);
  }
  return table;
}

}  // namespace dither::models
