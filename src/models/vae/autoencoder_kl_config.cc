#include <fmt/format.h>

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/config_check.h"
#include "models/vae/autoencoder_kl.h"

namespace dither::models {
namespace {

/// Names of the layers in one half ("encoder." or "decoder.") of the autoencoder.
class HalfTable {
 public:
  HalfTable(nn::TensorTable& table, const TensorSource& source, std::string prefix)
      : table_(table), source_(source), prefix_(std::move(prefix)) {}

  void conv(const std::string& name, std::int64_t out, std::int64_t in) {
    table_.add_conv2d(prefix_ + name, out, in, 3);
  }
  void norm(const std::string& name, std::int64_t channels) {
    table_.add_norm(prefix_ + name, channels);
  }
  void resnet(const std::string& name, std::int64_t out, std::int64_t in) {
    norm(name + ".norm1", in);
    conv(name + ".conv1", out, in);
    norm(name + ".norm2", out);
    conv(name + ".conv2", out, out);
    if (in != out) table_.add_conv2d(prefix_ + name + ".conv_shortcut", out, in, 1);
  }
  void mid_block(std::int64_t channels, bool with_attention) {
    resnet("mid_block.resnets.0", channels, channels);
    if (with_attention) attention("mid_block.attentions.0.", channels);
    resnet("mid_block.resnets.1", channels, channels);
  }

 private:
  void attention(const std::string& name, std::int64_t channels) {
    norm(name + "group_norm", channels);
    const bool old_names = source_.find(prefix_ + name + "query.weight") != nullptr;
    const std::array<const char*, 4> names = old_names
                                                 ? std::array{"query", "key", "value", "proj_attn"}
                                                 : std::array{"to_q", "to_k", "to_v", "to_out.0"};
    for (const char* projection : names) {
      const std::string full = prefix_ + name + projection;
      // Older checkpoints store the projections as 1 x 1 convolutions.
      const TensorInfo* weight = source_.find(full + ".weight");
      if (weight != nullptr && weight->shape.size() == 4) {
        table_.add_conv2d(full, channels, channels, 1);
      } else {
        table_.add_linear(full, channels, channels);
      }
    }
  }

  nn::TensorTable& table_;
  const TensorSource& source_;
  std::string prefix_;
};

void add_encoder(HalfTable half, const AutoencoderKlConfig& config) {
  std::int64_t channels = config.block_out_channels.front();
  half.conv("conv_in", channels, config.in_channels);
  for (std::size_t i = 0; i < config.block_out_channels.size(); ++i) {
    const std::string block = fmt::format("down_blocks.{}.", i);
    const std::int64_t out = config.block_out_channels[i];
    for (std::int64_t j = 0; j < config.layers_per_block; ++j) {
      half.resnet(fmt::format("{}resnets.{}", block, j), out, j == 0 ? channels : out);
    }
    if (i + 1 < config.block_out_channels.size())
      half.conv(block + "downsamplers.0.conv", out, out);
    channels = out;
  }
  half.mid_block(channels, config.mid_block_add_attention);
  half.norm("conv_norm_out", channels);
  half.conv("conv_out", 2 * config.latent_channels, channels);
}

void add_decoder(HalfTable half, const AutoencoderKlConfig& config) {
  const std::vector<std::int64_t>& levels = config.decoder_channels();
  std::int64_t channels = levels.back();
  half.conv("conv_in", channels, config.latent_channels);
  half.mid_block(channels, config.mid_block_add_attention);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const std::string block = fmt::format("up_blocks.{}.", i);
    const std::int64_t out = *(levels.rbegin() + static_cast<std::ptrdiff_t>(i));
    for (std::int64_t j = 0; j <= config.layers_per_block; ++j) {
      half.resnet(fmt::format("{}resnets.{}", block, j), out, j == 0 ? channels : out);
    }
    if (i + 1 < levels.size()) half.conv(block + "upsamplers.0.conv", out, out);
    channels = out;
  }
  half.norm("conv_norm_out", channels);
  half.conv("conv_out", config.out_channels, channels);
}

}  // namespace

void AutoencoderKlConfig::validate() const {
  constexpr std::int64_t kMaxBlocks = 8;
  const ConfigCheck check("VAE");
  check.extent("in_channels", in_channels);
  check.extent("out_channels", out_channels);
  check.extent("latent_channels", latent_channels);
  check.extent("layers_per_block", layers_per_block, ConfigCheck::kMaxLayers);
  check.extent("norm_num_groups", norm_num_groups);
  check.extent("the number of block_out_channels",
               static_cast<std::int64_t>(block_out_channels.size()), kMaxBlocks);
  const auto check_channels = [&](std::string_view key, const std::vector<std::int64_t>& levels) {
    for (const std::int64_t channels : levels) {
      check.extent(key, channels);
      check.multiple(key, channels, norm_num_groups, "norm_num_groups");
    }
  };
  check_channels("block_out_channels", block_out_channels);
  check_channels("decoder_block_out_channels", decoder_block_out_channels);
  check.equal("the number of decoder_block_out_channels",
              static_cast<std::int64_t>(decoder_channels().size()),
              static_cast<std::int64_t>(block_out_channels.size()), "block_out_channels");
  check.supported(act_fn == "silu", fmt::format("act_fn '{}' is not supported, only silu", act_fn));
  check.positive("scaling_factor", scaling_factor);
  check.extent("sample_size", sample_size);
}

nn::TensorTable autoencoder_kl_table(const AutoencoderKlConfig& config,
                                     const TensorSource& source) {
  nn::TensorTable table;
  add_encoder({table, source, "encoder."}, config);
  add_decoder({table, source, "decoder."}, config);
  if (config.use_quant_conv) {
    table.add_conv2d("quant_conv", 2 * config.latent_channels, 2 * config.latent_channels, 1);
  }
  if (config.use_post_quant_conv) {
    table.add_conv2d("post_quant_conv", config.latent_channels, config.latent_channels, 1);
  }
  return table;
}

}  // namespace dither::models
