#include "models/flux2/config.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>
#include <string>

#include "models/config_check.h"
#include "models/flux/modulation.h"

namespace dither::models {
namespace {

void add_double_block(nn::TensorTable& table, const std::string& block, const Flux2Config& config) {
  const std::int64_t width = config.width();
  for (const char* name : {"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj",
                           "add_v_proj", "to_add_out"}) {
    table.add_linear(block + "attn." + name, width, width, false);
  }
  for (const char* name : {"norm_q", "norm_k", "norm_added_q", "norm_added_k"}) {
    table.add(block + "attn." + name + ".weight", {config.attention_head_dim});
  }
  for (const char* name : {"ff", "ff_context"}) {
    table.add_linear(block + name + ".linear_in", 2 * config.mlp_width(), width, false);
    table.add_linear(block + name + ".linear_out", width, config.mlp_width(), false);
  }
}

void add_single_block(nn::TensorTable& table, const std::string& block, const Flux2Config& config) {
  const std::int64_t width = config.width();
  table.add_linear(block + "attn.to_qkv_mlp_proj", 3 * width + 2 * config.mlp_width(), width,
                   false);
  for (const char* name : {"norm_q", "norm_k"}) {
    table.add(block + "attn." + name + ".weight", {config.attention_head_dim});
  }
  table.add_linear(block + "attn.to_out", width, width + config.mlp_width(), false);
}

}  // namespace

void Flux2Config::validate() const {
  const ConfigCheck check("FLUX.2 transformer");
  check.supported(patch_size == 1,
                  fmt::format("patch_size {} is not supported, only 1", patch_size));
  check.extent("in_channels", in_channels);
  check.multiple("in_channels", in_channels, 4, "a patch of 2 x 2 latents");
  check.supported(out_channels.value_or(in_channels) == in_channels,
                  fmt::format("in_channels {} with out_channels {} is not supported, only as many",
                              in_channels, out_channels.value_or(in_channels)));
  check.extent("num_layers", num_layers, ConfigCheck::kMaxLayers);
  check.extent("num_single_layers", num_single_layers, ConfigCheck::kMaxLayers);
  check.extent("attention_head_dim", attention_head_dim);
  check.extent("num_attention_heads", num_attention_heads);
  check.extent("attention_head_dim x num_attention_heads", width());
  check.extent("joint_attention_dim", joint_attention_dim);
  check.extent("timestep_guidance_channels", timestep_guidance_channels);
  check.multiple("timestep_guidance_channels", timestep_guidance_channels, 2,
                 "a cosine and a sine");
  check.positive("mlp_ratio", mlp_ratio);
  check.supported(mlp_ratio <= static_cast<double>(ConfigCheck::kMaxLayers),
                  fmt::format("mlp_ratio {} is not supported", mlp_ratio));
  check.extent("attention_head_dim x num_attention_heads x mlp_ratio", mlp_width());
  for (const std::int64_t dim : axes_dims_rope) {
    check.extent("axes_dims_rope", dim);
    check.multiple("axes_dims_rope", dim, 2, "a pair of channels");
  }
  check.equal("the sum of axes_dims_rope",
              std::accumulate(axes_dims_rope.begin(), axes_dims_rope.end(), std::int64_t{0}),
              attention_head_dim, "attention_head_dim");
  check.positive("rope_theta", rope_theta);
  check.supported(static_cast<float>(eps) == kFluxNormEps,
                  fmt::format("eps {} is not supported, only {}", eps, kFluxNormEps));
}

nn::TensorTable flux2_table(const Flux2Config& config) {
  const std::int64_t width = config.width();
  nn::TensorTable table;
  const auto add = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    table.add_linear(name, out, in, false);
  };
  add("x_embedder", width, config.in_channels);
  add("context_embedder", width, config.joint_attention_dim);
  const auto add_embedder = [&](const std::string& name) {
    add("time_guidance_embed." + name + ".linear_1", width, config.timestep_guidance_channels);
    add("time_guidance_embed." + name + ".linear_2", width, width);
  };
  add_embedder("timestep_embedder");
  if (config.guidance_embeds) add_embedder("guidance_embedder");
  add("double_stream_modulation_img.linear", 6 * width, width);
  add("double_stream_modulation_txt.linear", 6 * width, width);
  add("single_stream_modulation.linear", 3 * width, width);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    table.in_layer(kFlux2Blocks, i);
    add_double_block(table, fmt::format("transformer_blocks.{}.", i), config);
  }
  for (std::int64_t i = 0; i < config.num_single_layers; ++i) {
    table.in_layer(kFlux2Blocks, config.num_layers + i);
    add_single_block(table, fmt::format("single_transformer_blocks.{}.", i), config);
  }
  table.in_layer({});
  add("norm_out.linear", 2 * width, width);
  add("proj_out", config.in_channels, width);
  return table;
}

}  // namespace dither::models
