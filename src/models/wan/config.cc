#include "models/wan/config.h"

#include <fmt/format.h>

#include "models/config_check.h"
#include "models/flux/modulation.h"

namespace dither::models {
namespace {

/// Of the prompt's keys and values: read once a trajectory.
void add_text_projection(nn::TensorTable& table, const std::string& block, std::int64_t width) {
  table.add_linear(block + "attn2.to_k", width, width);
  table.add_linear(block + "attn2.to_v", width, width);
  table.add(block + "attn2.norm_k.weight", {width});
}

void add_block(nn::TensorTable& table, const std::string& block, const WanConfig& config) {
  const std::int64_t width = config.width();
  for (const char* name : {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q",
                           "attn2.to_out.0"}) {
    table.add_linear(block + name, width, width);
  }
  for (const char* name : {"attn1.norm_q", "attn1.norm_k", "attn2.norm_q"}) {
    table.add(block + name + ".weight", {width});
  }
  table.add_linear(block + "ffn.net.0.proj", config.ffn_dim, width);
  table.add_linear(block + "ffn.net.2", width, config.ffn_dim);
  table.in_dtype(DType::kF32);
  table.add(block + "scale_shift_table", {1, 6, width});
  table.add_norm(block + "norm2", width);
  table.in_dtype({});
}

}  // namespace

void WanConfig::validate() const {
  const ConfigCheck check("Wan transformer");
  check.supported(patch_size == std::array<std::int64_t, 3>{1, 2, 2},
                  fmt::format("patch_size [{}, {}, {}] is not supported, only [1, 2, 2]",
                              patch_size[0], patch_size[1], patch_size[2]));
  check.extent("in_channels", in_channels);
  check.extent("out_channels", out_channels.value_or(in_channels));
  check.extent("num_layers", num_layers, ConfigCheck::kMaxLayers);
  check.extent("attention_head_dim", attention_head_dim);
  check.multiple("attention_head_dim", attention_head_dim, 2, "a pair of channels");
  check.supported(attention_head_dim >= 6,
                  fmt::format("attention_head_dim {} is not supported: it has no pair for each of "
                              "the three axes",
                              attention_head_dim));
  check.extent("num_attention_heads", num_attention_heads);
  check.extent("attention_head_dim x num_attention_heads", width());
  check.extent("text_dim", text_dim);
  check.extent("freq_dim", freq_dim);
  check.multiple("freq_dim", freq_dim, 2, "a cosine and a sine");
  check.extent("ffn_dim", ffn_dim);
  check.extent("rope_max_seq_len", rope_max_seq_len);
  check.supported(cross_attn_norm, "cross_attn_norm false is not supported");
  check.supported(qk_norm == "rms_norm_across_heads",
                  fmt::format("qk_norm {} is not supported, only rms_norm_across_heads",
                              qk_norm.value_or("null")));
  check.supported(!image_dim && !added_kv_proj_dim,
                  "image_dim and added_kv_proj_dim are not supported: Wan2.1's transformers that "
                  "read a picture through CLIP, too; Wan2.2's read its latents alone");
  check.supported(static_cast<float>(eps) == kFluxNormEps,
                  fmt::format("eps {} is not supported, only {}", eps, kFluxNormEps));
}

nn::TensorTable wan_table(const WanConfig& config) {
  const std::int64_t width = config.width();
  const auto& [frames, rows, cols] = config.patch_size;
  nn::TensorTable table;
  table.add("patch_embedding.weight", {width, config.in_channels, frames, rows, cols});
  table.add("patch_embedding.bias", {width});
  table.in_dtype(DType::kF32);
  table.add_linear("condition_embedder.time_embedder.linear_1", width, config.freq_dim);
  table.add_linear("condition_embedder.time_embedder.linear_2", width, width);
  table.in_dtype({});
  table.add_linear("condition_embedder.time_proj", 6 * width, width);
  table.add_linear("condition_embedder.text_embedder.linear_1", width, config.text_dim);
  table.add_linear("condition_embedder.text_embedder.linear_2", width, width);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    const std::string block = fmt::format("blocks.{}.", i);
    table.in_layer(kWanTextProjections, i);
    add_text_projection(table, block, width);
    table.in_layer(kWanBlocks, i);
    add_block(table, block, config);
  }
  table.in_layer({});
  table.in_dtype(DType::kF32);
  table.add("scale_shift_table", {1, 2, width});
  table.in_dtype({});
  table.add_linear("proj_out", config.velocity_width(), width);
  return table;
}

}  // namespace dither::models
