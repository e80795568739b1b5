#include "pipelines/flux1/flux1_configs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace dither {
namespace {

/// The class that FluxPipeline's model_index.json names for each component.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kComponentClasses = {{
    {"scheduler", "FlowMatchEulerDiscreteScheduler"},
    {"text_encoder", "CLIPTextModel"},
    {"text_encoder_2", "T5EncoderModel"},
    {"transformer", "FluxTransformer2DModel"},
    {"vae", "AutoencoderKL"},
}};

}  // namespace

models::Flux1Config parse_flux1_config(const JsonConfig& json) {
  json.expect<std::string>("_class_name", "FluxTransformer2DModel");
  models::Flux1Config config;
  config.patch_size = json.get<std::int64_t>("patch_size", config.patch_size);
  config.in_channels = json.get<std::int64_t>("in_channels");
  config.out_channels = json.find<std::int64_t>("out_channels");
  config.num_layers = json.get<std::int64_t>("num_layers");
  config.num_single_layers = json.get<std::int64_t>("num_single_layers");
  config.attention_head_dim = json.get<std::int64_t>("attention_head_dim");
  config.num_attention_heads = json.get<std::int64_t>("num_attention_heads");
  config.joint_attention_dim = json.get<std::int64_t>("joint_attention_dim");
  config.pooled_projection_dim = json.get<std::int64_t>("pooled_projection_dim");
  config.guidance_embeds = json.get<bool>("guidance_embeds", false);
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

models::ClipTextConfig parse_clip_text_config(const JsonConfig& json) {
  json.expect<std::string>("model_type", "clip_text_model");
  models::ClipTextConfig config;
  config.vocab_size = json.get<std::int64_t>("vocab_size");
  config.hidden_size = json.get<std::int64_t>("hidden_size");
  config.intermediate_size = json.get<std::int64_t>("intermediate_size");
  config.num_hidden_layers = json.get<std::int64_t>("num_hidden_layers");
  config.num_attention_heads = json.get<std::int64_t>("num_attention_heads");
  config.max_position_embeddings = json.get<std::int64_t>("max_position_embeddings");
  config.hidden_act = json.get<std::string>("hidden_act", config.hidden_act);
  config.layer_norm_eps = json.get<double>("layer_norm_eps", config.layer_norm_eps);
  config.eos_token_id = json.get<int>("eos_token_id", config.eos_token_id);
  ignore_transformers_keys(json);
  json.ignore({"attention_dropout", "dropout", "projection_dim"});
  finish_config(json, [&] { config.validate(); });
  return config;
}

models::AutoencoderKlConfig parse_autoencoder_kl_config(const JsonConfig& json) {
  json.expect<std::string>("_class_name", "AutoencoderKL");
  models::AutoencoderKlConfig config = read_autoencoder_kl_keys(json);
  config.scaling_factor = json.get<double>("scaling_factor");
  config.shift_factor = json.get<double>("shift_factor", 0.0);
  for (const char* key : {"latents_mean", "latents_std"}) {
    if (json.find<std::vector<double>>(key)) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: '{}' must be null: latents are scaled by scaling_factor and "
                              "shift_factor only",
                              json.file(), key));
    }
  }
  finish_config(json, [&] { config.validate(); });
  return config;
}

Flux1Configs load_flux1_configs(const ModelFolder& folder) {
  check_component_classes(folder, "FluxPipeline", kComponentClasses);
  Flux1Configs configs{
      .transformer = parse_flux1_config(folder.component_config("transformer")),
      .text_encoder = parse_clip_text_config(folder.component_config("text_encoder")),
      .text_encoder_2 = parse_t5_config(folder.component_config("text_encoder_2")),
      .vae = parse_autoencoder_kl_config(folder.component_config("vae")),
      .scheduler =
          parse_flow_match_config(folder.component_config("scheduler", "scheduler_config.json")),
  };
  const models::Flux1Config& transformer = configs.transformer;
  check_configs_agree(folder, "transformer in_channels", transformer.in_channels,
                      "4 x vae latent_channels =", 4 * configs.vae.latent_channels);
  check_configs_agree(folder, "transformer joint_attention_dim", transformer.joint_attention_dim,
                      "text_encoder_2 d_model", configs.text_encoder_2.d_model);
  check_configs_agree(folder, "transformer pooled_projection_dim",
                      transformer.pooled_projection_dim, "text_encoder hidden_size",
                      configs.text_encoder.hidden_size);
  return configs;
}

}  // namespace dither
