#include "pipelines/wan/wan_configs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "pipelines/component_configs.h"
#include "pipelines/t5_configs.h"
#include "pipelines/wan/unipc_config.h"

namespace dither {
namespace {

constexpr std::string_view kPicturePipeline = "WanImageToVideoPipeline";
constexpr std::string_view kTransformer = "WanTransformer3DModel";
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kComponentClasses = {{
    {"scheduler", "UniPCMultistepScheduler"},
    {"text_encoder", "UMT5EncoderModel"},
    {"transformer", kTransformer},
    {"vae", "AutoencoderKLWan"},
}};

/// Absent where there is one transformer. Throws for one without the other.
std::optional<double> read_boundary(const ModelFolder& folder) {
  constexpr std::string_view kKey = "boundary_ratio";
  const JsonConfig& settings = folder.settings();
  const auto boundary = settings.find<double>(kKey);
  const bool two = folder.has("transformer_2");
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: {}", settings.file(), what));
  };
  if (boundary && !(*boundary > 0 && *boundary < 1)) {
    fail(fmt::format("'{}' is {}, must lie between 0 and 1", kKey, *boundary));
  }
  if (boundary && !two) {
    fail(fmt::format("'{}' {} divides the steps between two experts, but transformer_2 is missing",
                     kKey, *boundary));
  }
  if (!boundary && two) {
    fail(fmt::format("lists transformer_2, but no '{}' says which steps it takes", kKey));
  }
  return boundary;
}

std::optional<models::WanConfig> read_second(const ModelFolder& folder) {
  if (!folder.has("transformer_2")) return std::nullopt;
  const std::array<std::pair<std::string_view, std::string_view>, 1> expected = {
      {{"transformer_2", kTransformer}}};
  check_component_classes(folder, folder.index().class_name, expected);
  return parse_wan_config(folder.component_config("transformer_2"));
}

void check_second(const ModelFolder& folder, const models::WanConfig& first,
                  const models::WanConfig& second) {
  check_configs_agree(folder, "transformer_2 in_channels", second.in_channels,
                      "transformer in_channels", first.in_channels);
  check_configs_agree(folder, "transformer_2 out_channels", second.latent_channels(),
                      "transformer out_channels", first.latent_channels());
  check_configs_agree(folder, "transformer_2 text_dim", second.text_dim, "transformer text_dim",
                      first.text_dim);
}

/// How the transformer takes a picture, by the pipeline's class and `expand_timesteps`. Throws
/// where the number of its channels is another's.
PictureInput read_picture_input(const ModelFolder& folder, const WanConfigs& configs) {
  const std::string& pipeline = folder.index().class_name;
  const bool in_place = folder.settings().get<bool>("expand_timesteps", false);
  const bool beside = pipeline == kPicturePipeline && !in_place;
  const std::int64_t in = configs.transformer.in_channels;
  const std::int64_t latents = configs.latent_channels();
  const std::int64_t expected = beside ? 2 * latents + configs.mask_channels() : latents;
  if (in != expected) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: transformer in_channels {} does not fit {}{}: must be {}, {}",
                            folder.path().string(), in, pipeline,
                            in_place ? " with expand_timesteps" : "", expected,
                            beside ? "latents, mask and a picture's latents" : "its out_channels"));
  }
  if (beside) return PictureInput::kChannels;
  return in_place ? PictureInput::kFirstFrame : PictureInput::kNone;
}

}  // namespace

models::WanConfig parse_wan_config(const JsonConfig& json) {
  json.expect<std::string>("_class_name", std::string(kTransformer));
  models::WanConfig config;
  if (const auto patch = json.find<std::vector<std::int64_t>>("patch_size")) {
    if (patch->size() != config.patch_size.size()) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: 'patch_size' has {} axes, only {} are supported", json.file(),
                              patch->size(), config.patch_size.size()));
    }
    std::ranges::copy(*patch, config.patch_size.begin());
  }
  config.num_attention_heads = json.get<std::int64_t>("num_attention_heads");
  config.attention_head_dim = json.get<std::int64_t>("attention_head_dim");
  config.in_channels = json.get<std::int64_t>("in_channels");
  config.out_channels = json.find<std::int64_t>("out_channels");
  config.text_dim = json.get<std::int64_t>("text_dim", config.text_dim);
  config.freq_dim = json.get<std::int64_t>("freq_dim", config.freq_dim);
  config.ffn_dim = json.get<std::int64_t>("ffn_dim");
  config.num_layers = json.get<std::int64_t>("num_layers");
  config.cross_attn_norm = json.get<bool>("cross_attn_norm", config.cross_attn_norm);
  config.qk_norm = json.find<std::string>("qk_norm");
  config.eps = json.get<double>("eps", config.eps);
  config.image_dim = json.find<std::int64_t>("image_dim");
  config.added_kv_proj_dim = json.find<std::int64_t>("added_kv_proj_dim");
  config.rope_max_seq_len = json.get<std::int64_t>("rope_max_seq_len", config.rope_max_seq_len);
  json.ignore({"pos_embed_seq_len"});  // of image_dim's embedding
  finish_config(json, [&] { config.validate(); });
  return config;
}

models::WanVaeConfig parse_wan_vae_config(const JsonConfig& json) {
  json.expect<std::string>("_class_name", "AutoencoderKLWan");
  models::WanVaeConfig config;
  json.read("base_dim", config.base_dim);
  config.decoder_base_dim = json.find<std::int64_t>("decoder_base_dim");
  json.read("z_dim", config.z_dim);
  json.read("dim_mult", config.dim_mult);
  json.read("num_res_blocks", config.num_res_blocks);
  json.read("attn_scales", config.attn_scales);
  json.read("temperal_downsample", config.temperal_downsample);
  json.read("latents_mean", config.latents_mean);
  json.read("latents_std", config.latents_std);
  json.read("is_residual", config.is_residual);
  json.read("in_channels", config.in_channels);
  json.read("out_channels", config.out_channels);
  json.read("patch_size", config.patch_size);
  json.read("scale_factor_temporal", config.scale_factor_temporal);
  json.read("scale_factor_spatial", config.scale_factor_spatial);
  json.ignore({"dropout", "clip_output"});  // the decoder always clips
  finish_config(json, [&] { config.validate(); });
  return config;
}

WanConfigs load_wan_configs(const ModelFolder& folder) {
  const std::optional<double> boundary = read_boundary(folder);
  check_component_classes(folder, folder.index().class_name, kComponentClasses);
  WanConfigs configs{
      .transformer = parse_wan_config(folder.component_config("transformer")),
      .transformer_2 = read_second(folder),
      .boundary_ratio = boundary,
      .text_encoder = parse_umt5_config(folder.component_config("text_encoder")),
      .vae = parse_wan_vae_config(folder.component_config("vae")),
      .scheduler =
          parse_unipc_config(folder.component_config("scheduler", "scheduler_config.json")),
      .picture = {},
  };
  const models::WanConfig& transformer = configs.transformer;
  if (configs.transformer_2) check_second(folder, transformer, *configs.transformer_2);
  configs.picture = read_picture_input(folder, configs);
  check_configs_agree(folder, "transformer out_channels", configs.latent_channels(), "vae z_dim",
                      configs.vae.z_dim);
  check_configs_agree(folder, "transformer text_dim", transformer.text_dim, "text_encoder d_model",
                      configs.text_encoder.d_model);
  return configs;
}

// Sources: Wan2.2's wan/configs/wan_t2v_A14B.py, wan_i2v_A14B.py and wan_ti2v_5B.py, Wan2.1's
// README for T2V-1.3B.
WanSuggestions suggest(const WanConfigs& configs) {
  if (configs.picture == PictureInput::kChannels) {
    return {.num_inference_steps = 40, .guidance_scale = 3.5, .guidance_scale_2 = 3.5};
  }
  if (configs.boundary_ratio) {
    return {
        .num_inference_steps = 40, .guidance_scale = 4, .guidance_scale_2 = 3, .flow_shift = 12};
  }
  if (configs.vae.is_residual) {
    return {.width = 1280, .height = 704, .num_frames = 121, .fps = 24, .flow_shift = 5};
  }
  return {.guidance_scale = 6, .flow_shift = 8};
}

}  // namespace dither
