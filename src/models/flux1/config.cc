#include "models/flux1/config.h"

#include <fmt/format.h>

#include <numeric>
#include <string>
#include <utility>

#include "models/config_check.h"
#include "models/flux/timestep_embedding.h"

namespace dither::models {
namespace {

/// What a transformer with more input than output channels is for.
const char* variant_of(std::int64_t in_channels) {
  if (in_channels == 128) return "FLUX.1 Control (control latents beside the noise)";
  if (in_channels == 384) return "FLUX.1 Fill (masked image and mask beside the noise)";
  return "a variant of FLUX.1 with more inputs than the noise";
}

/// Appends a model's tensors, each to the layer that it runs in.
class Flux1Table {
 public:
  explicit Flux1Table(const Flux1Config& config) : config_(config) {}

  void add_modulation(const std::string& name, std::int64_t vectors) {
    table_.in_layer(kFlux1Modulations, modulation_++);
    table_.add_linear(name, vectors * config_.width(), config_.width());
    table_.in_layer({});
  }

  void add_double_block(const std::string& block) {
    const std::int64_t width = config_.width();
    for (const char* name : {"norm1.linear", "norm1_context.linear"}) {
      add_modulation(block + name, 6);
    }
    table_.in_layer(kFlux1Blocks, block_++);
    for (const char* name : {"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj",
                             "add_v_proj", "to_add_out"}) {
      table_.add_linear(block + "attn." + name, width, width);
    }
    for (const char* name : {"norm_q", "norm_k", "norm_added_q", "norm_added_k"}) {
      table_.add(block + "attn." + name + ".weight", {config_.attention_head_dim});
    }
    for (const char* name : {"ff", "ff_context"}) {
      table_.add_linear(block + name + ".net.0.proj", config_.mlp_width(), width);
      table_.add_linear(block + name + ".net.2", width, config_.mlp_width());
    }
    table_.in_layer({});
  }

  void add_single_block(const std::string& block) {
    const std::int64_t width = config_.width();
    add_modulation(block + "norm.linear", 3);
    table_.in_layer(kFlux1Blocks, block_++);
    for (const char* name : {"to_q", "to_k", "to_v"}) {
      table_.add_linear(block + "attn." + name, width, width);
    }
    for (const char* name : {"norm_q", "norm_k"}) {
      table_.add(block + "attn." + name + ".weight", {config_.attention_head_dim});
    }
    table_.add_linear(block + "proj_mlp", config_.mlp_width(), width);
    table_.add_linear(block + "proj_out", width, width + config_.mlp_width());
    table_.in_layer({});
  }

  nn::TensorTable& table() { return table_; }

 private:
  const Flux1Config& config_;
  nn::TensorTable table_;
  std::int64_t modulation_ = 0;
  std::int64_t block_ = 0;
};

}  // namespace

void Flux1Config::validate() const {
  const ConfigCheck check("FLUX.1 transformer");
  check.supported(patch_size == 1,
                  fmt::format("patch_size {} is not supported, only 1", patch_size));
  check.extent("in_channels", in_channels);
  check.extent("num_layers", num_layers, ConfigCheck::kMaxLayers);
  check.extent("num_single_layers", num_single_layers, ConfigCheck::kMaxLayers);
  check.extent("attention_head_dim", attention_head_dim);
  check.extent("num_attention_heads", num_attention_heads);
  check.extent("attention_head_dim x num_attention_heads", width());
  check.extent("joint_attention_dim", joint_attention_dim);
  check.extent("pooled_projection_dim", pooled_projection_dim);
  for (const std::int64_t dim : axes_dims_rope) {
    check.extent("axes_dims_rope", dim);
    check.multiple("axes_dims_rope", dim, 2, "a pair of channels");
  }
  check.equal("the sum of axes_dims_rope",
              std::accumulate(axes_dims_rope.begin(), axes_dims_rope.end(), std::int64_t{0}),
              attention_head_dim, "attention_head_dim");
  check.supported(
      out_channels.value_or(in_channels) == in_channels,
      fmt::format("in_channels {} with out_channels {} is {}, which is not supported", in_channels,
                  out_channels.value_or(in_channels), variant_of(in_channels)));
  check.multiple("in_channels", in_channels, 4, "a patch of 2 x 2 latents");
}

nn::TensorTable flux1_table(const Flux1Config& config) {
  const std::int64_t width = config.width();
  Flux1Table flux1(config);
  nn::TensorTable& table = flux1.table();
  table.add_linear("x_embedder", width, config.in_channels);
  table.add_linear("context_embedder", width, config.joint_attention_dim);
  const auto add_embedder = [&](const std::string& name, std::int64_t in) {
    table.add_linear("time_text_embed." + name + ".linear_1", width, in);
    table.add_linear("time_text_embed." + name + ".linear_2", width, width);
  };
  add_embedder("timestep_embedder", kSinusoidDim);
  if (config.guidance_embeds) add_embedder("guidance_embedder", kSinusoidDim);
  add_embedder("text_embedder", config.pooled_projection_dim);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    flux1.add_double_block(fmt::format("transformer_blocks.{}.", i));
  }
  for (std::int64_t i = 0; i < config.num_single_layers; ++i) {
    flux1.add_single_block(fmt::format("single_transformer_blocks.{}.", i));
  }
  flux1.add_modulation("norm_out.linear", 2);
  table.add_linear("proj_out", config.in_channels, width);
  return std::move(table);
}

}  // namespace dither::models
