#include "pipelines/flux2/flux2_configs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace dither {
namespace {

/// transformers 5 writes {"rope_parameters": {"rope_type", "rope_theta"}}, before it "rope_theta"
/// stood alone.
double read_rope_theta(const JsonConfig& json) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const auto rope = json.find<JsonConfig>(key);
    if (!rope) continue;
    rope->expect<std::string>("rope_type", "default");
    if (const auto theta = rope->find<double>("rope_theta")) return *theta;
  }
  return json.get<double>("rope_theta");
}

void expect_full_attention(const JsonConfig& json) {
  if (!json.get<bool>("use_sliding_window", false)) {
    json.ignore({"sliding_window", "max_window_layers"});
  } else if (json.find<std::int64_t>("sliding_window")) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: 'use_sliding_window' is not supported", json.file()));
  }
  for (const auto& type : json.get<std::vector<std::string>>("layer_types", {})) {
    if (type == "full_attention") continue;
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: 'layer_types' has '{}', only full_attention is supported",
                            json.file(), type));
  }
}

models::CausalLmConfig read_causal_lm_keys(const JsonConfig& json, bool is_mistral) {
  models::CausalLmConfig config;
  config.vocab_size = json.get<std::int64_t>("vocab_size");
  config.hidden_size = json.get<std::int64_t>("hidden_size");
  config.intermediate_size = json.get<std::int64_t>("intermediate_size");
  config.num_hidden_layers = json.get<std::int64_t>("num_hidden_layers");
  config.num_attention_heads = json.get<std::int64_t>("num_attention_heads");
  config.num_key_value_heads = json.get<std::int64_t>("num_key_value_heads");
  config.head_dim = json.get<std::int64_t>("head_dim");
  config.rms_norm_eps = json.get<double>("rms_norm_eps");
  config.rope_theta = read_rope_theta(json);
  config.qk_norm = !is_mistral;
  json.expect<std::string>("hidden_act", "silu");
  for (const char* key : {"attention_bias", "mlp_bias"}) json.expect(key, false);
  if (is_mistral && json.find<std::int64_t>("sliding_window")) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: 'sliding_window' must be null", json.file()));
  }
  expect_full_attention(json);
  ignore_transformers_keys(json);
  json.ignore({"attention_dropout", "max_position_embeddings", "eos_token_id", "model_type"});
  return config;
}

}  // namespace

models::Flux2Config parse_flux2_config(const JsonConfig& json) {
  json.expect<std::string>("_class_name", "Flux2Transformer2DModel");
  models::Flux2Config config;
  config.patch_size = json.get<std::int64_t>("patch_size", config.patch_size);
  config.in_channels = json.get<std::int64_t>("in_channels");
  config.out_channels = json.find<std::int64_t>("out_channels");
  config.num_layers = json.get<std::int64_t>("num_layers");
  config.num_single_layers = json.get<std::int64_t>("num_single_layers");
  config.attention_head_dim = json.get<std::int64_t>("attention_head_dim");
  config.num_attention_heads = json.get<std::int64_t>("num_attention_heads");
  config.joint_attention_dim = json.get<std::int64_t>("joint_attention_dim");
  config.timestep_guidance_channels =
      json.get<std::int64_t>("timestep_guidance_channels", config.timestep_guidance_channels);
  config.mlp_ratio = json.get<double>("mlp_ratio", config.mlp_ratio);
  config.rope_theta = json.get<double>("rope_theta", config.rope_theta);
  config.eps = json.get<double>("eps", config.eps);
  config.guidance_embeds = json.get<bool>("guidance_embeds", config.guidance_embeds);
  if (const auto axes = json.find<std::vector<std::int64_t>>("axes_dims_rope")) {
    if (axes->size() != config.axes_dims_rope.size()) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: 'axes_dims_rope' has {} axes, only {} are supported",
                              json.file(), axes->size(), config.axes_dims_rope.size()));
    }
    std::ranges::copy(*axes, config.axes_dims_rope.begin());
  }
  finish_config(json, [&] { config.validate(); });
  return config;
}

Flux2VaeConfig parse_flux2_vae_config(const JsonConfig& json) {
  json.expect<std::string>("_class_name", "AutoencoderKLFlux2");
  Flux2VaeConfig config{.kl = read_autoencoder_kl_keys(json)};
  config.kl.decoder_block_out_channels =
      json.get<std::vector<std::int64_t>>("decoder_block_out_channels", {});
  config.batch_norm_eps = json.get<double>("batch_norm_eps", config.batch_norm_eps);
  json.expect("patch_size", std::vector<std::int64_t>{2, 2});
  json.ignore({"batch_norm_momentum"});
  finish_config(json, [&] {
    config.kl.validate();
    if (!(config.batch_norm_eps > 0)) {
      throw Error(ErrorCode::kDataLoss, fmt::format("VAE: batch_norm_eps is {}, must be positive",
                                                    config.batch_norm_eps));
    }
  });
  return config;
}

models::CausalLmConfig parse_causal_lm_config(const JsonConfig& json, const Flux2Variant& variant) {
  models::CausalLmConfig config;
  if (variant.is_mistral) {
    json.expect<std::string>("model_type", "mistral3");
    const auto text = json.get<JsonConfig>("text_config");
    text.expect<std::string>("model_type", "mistral");
    config = read_causal_lm_keys(text, true);
    ignore_transformers_keys(json);
    json.ignore({"image_token_id", "image_token_index", "multimodal_projector_bias",
                 "projector_hidden_act", "spatial_merge_size", "vision_config",
                 "vision_feature_layer"});
  } else {
    json.expect<std::string>("model_type", "qwen3");
    config = read_causal_lm_keys(json, false);
  }
  config.output_layers = variant.output_layers;
  finish_config(json, [&] { config.validate(); });
  return config;
}

Flux2Configs load_flux2_configs(const ModelFolder& folder) {
  const Flux2Variant& variant = flux2_variant(folder);
  const std::array<std::pair<std::string_view, std::string_view>, 4> classes = {{
      {"scheduler", "FlowMatchEulerDiscreteScheduler"},
      {"text_encoder", variant.text_encoder},
      {"transformer", "Flux2Transformer2DModel"},
      {"vae", "AutoencoderKLFlux2"},
  }};
  check_component_classes(folder, variant.pipeline, classes);
  Flux2Configs configs{
      .variant = &variant,
      .transformer = parse_flux2_config(folder.component_config("transformer")),
      .text_encoder = parse_causal_lm_config(folder.component_config("text_encoder"), variant),
      .vae = parse_flux2_vae_config(folder.component_config("vae")),
      .scheduler =
          parse_flow_match_config(folder.component_config("scheduler", "scheduler_config.json")),
      .is_distilled = folder.settings().get<bool>("is_distilled", variant.is_distilled),
  };
  check_configs_agree(folder, "transformer in_channels", configs.transformer.in_channels,
                      "4 x vae latent_channels =", 4 * configs.vae.kl.latent_channels);
  check_configs_agree(folder, "transformer joint_attention_dim",
                      configs.transformer.joint_attention_dim,
                      "3 x text_encoder hidden_size =", configs.text_encoder.embedding_width());
  return configs;
}

}  // namespace dither
