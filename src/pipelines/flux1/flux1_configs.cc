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

/// Keys of every transformers config that say nothing about the forward pass.
void ignore_transformers_keys(const JsonConfig& json) {
  json.ignore({"architectures", "dtype", "torch_dtype", "transformers_version",
               "initializer_factor", "initializer_range", "bos_token_id", "pad_token_id",
               "use_cache", "tie_word_embeddings"});
}

/// Reports what is left over, but for what io/quantization_config.h reads, and puts the file's name
/// in front of what a config objects to.
template <typename Validate>
void finish(const JsonConfig& json, const Validate& validate) {
  json.ignore({"quantization_config", "compression_config", "sparse_attention_config"});
  json.warn_unread_keys();
  try {
    validate();
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", json.file(), error.what()));
  }
}

void check_classes(const ModelFolder& folder) {
  for (const auto& [name, expected] : kComponentClasses) {
    const std::string& found = folder.component_class(name).name;
    if (found != expected) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: component '{}' is a {}, FluxPipeline needs a {}",
                              folder.path().string(), name, found, expected));
    }
  }
}

void check_equal(const ModelFolder& folder, std::string_view left_key, std::int64_t left,
                 std::string_view right_key, std::int64_t right) {
  if (left == right) return;
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: {} {} does not fit {} {}", folder.path().string(), left_key, left,
                          right_key, right));
}

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
  finish(json, [&] { config.validate(); });
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
  finish(json, [&] { config.validate(); });
  return config;
}

models::T5Config parse_t5_config(const JsonConfig& json) {
  json.expect<std::string>("model_type", "t5");
  json.expect<bool>("is_gated_act", true);
  json.expect<std::string>("dense_act_fn", "gelu_new");
  models::T5Config config;
  config.vocab_size = json.get<std::int64_t>("vocab_size");
  config.d_model = json.get<std::int64_t>("d_model");
  config.d_kv = json.get<std::int64_t>("d_kv");
  config.d_ff = json.get<std::int64_t>("d_ff");
  config.num_layers = json.get<std::int64_t>("num_layers");
  config.num_heads = json.get<std::int64_t>("num_heads");
  config.relative_attention_num_buckets = json.get<std::int64_t>(
      "relative_attention_num_buckets", config.relative_attention_num_buckets);
  config.relative_attention_max_distance = json.get<std::int64_t>(
      "relative_attention_max_distance", config.relative_attention_max_distance);
  config.layer_norm_epsilon = json.get<double>("layer_norm_epsilon", config.layer_norm_epsilon);
  config.feed_forward_proj = json.get<std::string>("feed_forward_proj");
  ignore_transformers_keys(json);
  json.ignore({"classifier_dropout", "decoder_start_token_id", "dropout_rate", "eos_token_id",
               "is_encoder_decoder", "n_positions", "num_decoder_layers", "output_past",
               "task_specific_params"});
  finish(json, [&] { config.validate(); });
  return config;
}

models::AutoencoderKlConfig parse_autoencoder_kl_config(const JsonConfig& json) {
  json.expect<std::string>("_class_name", "AutoencoderKL");
  models::AutoencoderKlConfig config;
  config.in_channels = json.get<std::int64_t>("in_channels", config.in_channels);
  config.out_channels = json.get<std::int64_t>("out_channels", config.out_channels);
  config.block_out_channels = json.get<std::vector<std::int64_t>>("block_out_channels");
  config.layers_per_block = json.get<std::int64_t>("layers_per_block");
  config.latent_channels = json.get<std::int64_t>("latent_channels");
  config.norm_num_groups = json.get<std::int64_t>("norm_num_groups", config.norm_num_groups);
  config.scaling_factor = json.get<double>("scaling_factor");
  config.shift_factor = json.get<double>("shift_factor", 0.0);
  config.act_fn = json.get<std::string>("act_fn", config.act_fn);
  config.mid_block_add_attention =
      json.get<bool>("mid_block_add_attention", config.mid_block_add_attention);
  // Absent means true: configs older than these keys have both convolutions.
  config.use_quant_conv = json.get<bool>("use_quant_conv", true);
  config.use_post_quant_conv = json.get<bool>("use_post_quant_conv", true);
  const std::size_t levels = config.block_out_channels.size();
  json.expect("down_block_types", std::vector<std::string>(levels, "DownEncoderBlock2D"));
  json.expect("up_block_types", std::vector<std::string>(levels, "UpDecoderBlock2D"));
  for (const char* key : {"latents_mean", "latents_std"}) {
    if (json.find<std::vector<double>>(key)) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: '{}' must be null: latents are scaled by scaling_factor and "
                              "shift_factor only",
                              json.file(), key));
    }
  }
  // FluxPipeline decodes in the dtype that the VAE was loaded in, whatever force_upcast says.
  json.ignore({"force_upcast", "sample_size"});
  finish(json, [&] { config.validate(); });
  return config;
}

schedulers::FlowMatchConfig parse_flow_match_config(const JsonConfig& json) {
  json.expect<std::string>("_class_name", "FlowMatchEulerDiscreteScheduler");
  schedulers::FlowMatchConfig config;
  const auto read = [&json]<typename T>(const char* key, T& value) {
    value = json.get<T>(key, value);
  };
  read("num_train_timesteps", config.num_train_timesteps);
  read("shift", config.shift);
  read("use_dynamic_shifting", config.use_dynamic_shifting);
  read("base_shift", config.base_shift);
  read("max_shift", config.max_shift);
  read("base_image_seq_len", config.base_image_seq_len);
  read("max_image_seq_len", config.max_image_seq_len);
  read("time_shift_type", config.time_shift_type);
  read("invert_sigmas", config.invert_sigmas);
  config.shift_terminal = json.find<double>("shift_terminal");
  read("use_karras_sigmas", config.use_karras_sigmas);
  read("use_exponential_sigmas", config.use_exponential_sigmas);
  read("use_beta_sigmas", config.use_beta_sigmas);
  read("stochastic_sampling", config.stochastic_sampling);
  finish(json, [&] { schedulers::validate(config); });
  return config;
}

Flux1Configs load_flux1_configs(const ModelFolder& folder) {
  check_classes(folder);
  Flux1Configs configs{
      .transformer = parse_flux1_config(folder.component_config("transformer")),
      .text_encoder = parse_clip_text_config(folder.component_config("text_encoder")),
      .text_encoder_2 = parse_t5_config(folder.component_config("text_encoder_2")),
      .vae = parse_autoencoder_kl_config(folder.component_config("vae")),
      .scheduler =
          parse_flow_match_config(folder.component_config("scheduler", "scheduler_config.json")),
  };
  const models::Flux1Config& transformer = configs.transformer;
  check_equal(folder, "transformer in_channels", transformer.in_channels,
              "4 x vae latent_channels =", 4 * configs.vae.latent_channels);
  check_equal(folder, "transformer joint_attention_dim", transformer.joint_attention_dim,
              "text_encoder_2 d_model", configs.text_encoder_2.d_model);
  check_equal(folder, "transformer pooled_projection_dim", transformer.pooled_projection_dim,
              "text_encoder hidden_size", configs.text_encoder.hidden_size);
  return configs;
}

}  // namespace dither
