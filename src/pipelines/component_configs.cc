#include "pipelines/component_configs.h"

#include <fmt/format.h>

#include <string>
#include <vector>

namespace dither {

void ignore_transformers_keys(const JsonConfig& json) {
  json.ignore({"architectures", "dtype", "torch_dtype", "transformers_version",
               "initializer_factor", "initializer_range", "bos_token_id", "pad_token_id",
               "use_cache", "tie_word_embeddings"});
}

void finish_config(const JsonConfig& json) {
  json.ignore({"quantization_config", "compression_config", "sparse_attention_config"});
  json.warn_unread_keys();
}

void check_component_classes(
    const ModelFolder& folder, std::string_view pipeline,
    std::span<const std::pair<std::string_view, std::string_view>> expected) {
  for (const auto& [name, class_name] : expected) {
    const std::string& found = folder.component_class(name).name;
    if (found != class_name) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: component '{}' is a {}, {} needs a {}", folder.path().string(),
                              name, found, pipeline, class_name));
    }
  }
}

void check_configs_agree(const ModelFolder& folder, std::string_view left_key, std::int64_t left,
                         std::string_view right_key, std::int64_t right) {
  if (left == right) return;
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: {} {} does not fit {} {}", folder.path().string(), left_key, left,
                          right_key, right));
}

models::AutoencoderKlConfig read_autoencoder_kl_keys(const JsonConfig& json) {
  models::AutoencoderKlConfig config;
  config.in_channels = json.get<std::int64_t>("in_channels", config.in_channels);
  config.out_channels = json.get<std::int64_t>("out_channels", config.out_channels);
  config.block_out_channels = json.get<std::vector<std::int64_t>>("block_out_channels");
  config.layers_per_block = json.get<std::int64_t>("layers_per_block");
  config.latent_channels = json.get<std::int64_t>("latent_channels");
  config.norm_num_groups = json.get<std::int64_t>("norm_num_groups", config.norm_num_groups);
  config.sample_size = json.get<std::int64_t>("sample_size", config.sample_size);
  config.act_fn = json.get<std::string>("act_fn", config.act_fn);
  config.mid_block_add_attention =
      json.get<bool>("mid_block_add_attention", config.mid_block_add_attention);
  // Absent means true: configs older than these keys have both convolutions.
  config.use_quant_conv = json.get<bool>("use_quant_conv", true);
  config.use_post_quant_conv = json.get<bool>("use_post_quant_conv", true);
  const std::size_t levels = config.block_out_channels.size();
  json.expect("down_block_types", std::vector<std::string>(levels, "DownEncoderBlock2D"));
  json.expect("up_block_types", std::vector<std::string>(levels, "UpDecoderBlock2D"));
  // Pipelines decode in the dtype that the VAE was loaded in, whatever force_upcast says.
  json.ignore({"force_upcast"});
  return config;
}

schedulers::FlowMatchConfig parse_flow_match_config(const JsonConfig& json) {
  json.expect<std::string>("_class_name", "FlowMatchEulerDiscreteScheduler");
  schedulers::FlowMatchConfig config;
  json.read("num_train_timesteps", config.num_train_timesteps);
  json.read("shift", config.shift);
  json.read("use_dynamic_shifting", config.use_dynamic_shifting);
  json.read("base_shift", config.base_shift);
  json.read("max_shift", config.max_shift);
  json.read("base_image_seq_len", config.base_image_seq_len);
  json.read("max_image_seq_len", config.max_image_seq_len);
  json.read("time_shift_type", config.time_shift_type);
  json.read("invert_sigmas", config.invert_sigmas);
  config.shift_terminal = json.find<double>("shift_terminal");
  json.read("use_karras_sigmas", config.use_karras_sigmas);
  json.read("use_exponential_sigmas", config.use_exponential_sigmas);
  json.read("use_beta_sigmas", config.use_beta_sigmas);
  json.read("stochastic_sampling", config.stochastic_sampling);
  finish_config(json, [&] { schedulers::validate(config); });
  return config;
}

}  // namespace dither
