#include "models/vae/wan_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "models/config_check.h"

namespace dither::models {
namespace {

constexpr std::array<std::int64_t, 3> kCube = {3, 3, 3};
constexpr std::array<std::int64_t, 3> kPoint = {1, 1, 1};
constexpr std::array<std::int64_t, 3> kTime = {3, 1, 1};

/// Names of the layers in one half ("encoder." or "decoder.") of the autoencoder.
class HalfTable {
 public:
  HalfTable(nn::TensorTable& table, std::string prefix)
      : table_(table), prefix_(std::move(prefix)) {}

  void conv(const std::string& name, std::int64_t out, std::int64_t in,
            const std::array<std::int64_t, 3>& kernel = kCube) {
    table_.add_conv3d(prefix_ + name, out, in, kernel);
  }
  void norm(const std::string& name, std::int64_t channels) {
    table_.add(prefix_ + name + ".gamma", {channels, 1, 1, 1});
  }
  void resnet(const std::string& name, std::int64_t out, std::int64_t in) {
    norm(name + ".norm1", in);
    conv(name + ".conv1", out, in);
    norm(name + ".norm2", out);
    conv(name + ".conv2", out, out);
    if (in != out) conv(name + ".conv_shortcut", out, in, kPoint);
  }
  void mid_block(std::int64_t channels) {
    const std::string attention = prefix_ + "mid_block.attentions.0.";
    resnet("mid_block.resnets.0", channels, channels);
    table_.add(attention + "norm.gamma", {channels, 1, 1});
    table_.add_conv2d(attention + "to_qkv", 3 * channels, channels, 1);
    table_.add_conv2d(attention + "proj", channels, channels, 1);
    resnet("mid_block.resnets.1", channels, channels);
  }
  /// `time_out`: channels of the convolution over time, 0 where there is none.
  void resample(const std::string& name, std::int64_t out, std::int64_t in, std::int64_t time_out) {
    table_.add_conv2d(prefix_ + name + ".resample.1", out, in, 3);
    if (time_out > 0) conv(name + ".time_conv", time_out, in, kTime);
  }

 private:
  nn::TensorTable& table_;
  std::string prefix_;
};

void add_encoder(HalfTable half, const WanVaeConfig& config) {
  half.conv("conv_in", config.base_dim, config.in_channels);
  std::int64_t channels = config.base_dim;
  int flat = 0;  // Wan2.1 numbers the layers of all levels
  const auto layer = [&](std::size_t level, const std::string& name) {
    return config.is_residual ? fmt::format("down_blocks.{}.{}", level, name)
                              : fmt::format("down_blocks.{}", flat++);
  };
  for (std::size_t level = 0; level < config.levels(); ++level) {
    const std::int64_t out = config.encoder_channels(level);
    for (std::int64_t j = 0; j < config.num_res_blocks; ++j) {
      half.resnet(layer(level, fmt::format("resnets.{}", j)), out, j == 0 ? channels : out);
    }
    if (level + 1 < config.levels()) {
      half.resample(layer(level, "downsampler"), out, out,
                    config.downsamples_time(level) ? out : 0);
    }
    channels = out;
  }
  half.mid_block(channels);
  half.norm("norm_out", channels);
  half.conv("conv_out", 2 * config.z_dim, channels);
}

void add_decoder(HalfTable half, const WanVaeConfig& config) {
  std::int64_t channels = config.decoder_channels(0);
  half.conv("conv_in", channels, config.z_dim);
  half.mid_block(channels);
  for (std::size_t block = 0; block < config.levels(); ++block) {
    const std::string name = fmt::format("up_blocks.{}.", block);
    const std::int64_t out = config.decoder_channels(block);
    for (std::int64_t j = 0; j <= config.num_res_blocks; ++j) {
      half.resnet(fmt::format("{}resnets.{}", name, j), out, j == 0 ? channels : out);
    }
    channels = out;
    if (block + 1 < config.levels()) {
      if (!config.is_residual) channels /= 2;
      half.resample(name + (config.is_residual ? "upsampler" : "upsamplers.0"), channels, out,
                    config.upsamples_time(block) ? 2 * out : 0);
    }
  }
  half.norm("norm_out", channels);
  half.conv("conv_out", config.out_channels, channels);
}

/// A shortcut around a block maps one level's channels to the next one's by repeating each, or by
/// taking means of as many.
void check_shortcuts(const ConfigCheck& check, const WanVaeConfig& config) {
  for (std::size_t level = 0; level < config.levels(); ++level) {
    const bool last = level + 1 == config.levels();
    const std::int64_t in = level == 0 ? config.base_dim : config.encoder_channels(level - 1);
    const std::int64_t down = last ? 1 : config.downsamples_time(level) ? 8 : 4;
    check.supported(in * down % config.encoder_channels(level) == 0,
                    fmt::format("dim_mult: {} channels of {} pixels have no means in {} channels",
                                in, down, config.encoder_channels(level)));
    if (last) continue;
    const std::int64_t from = config.decoder_channels(level == 0 ? 0 : level - 1);
    const std::int64_t to = config.decoder_channels(level);
    const std::int64_t up = config.upsamples_time(level) ? 8 : 4;
    const std::int64_t repeats = to * up / from;
    check.supported(to * up % from == 0 && (repeats % up == 0 || up % repeats == 0),
                    fmt::format("dim_mult: {} channels cannot be spread over {} channels of {} "
                                "pixels",
                                from, to, up));
  }
}

}  // namespace

void WanVaeConfig::validate() const {
  constexpr std::int64_t kMaxLevels = 8;
  constexpr std::int64_t kMaxPatch = 16;
  const ConfigCheck check("Wan VAE");
  check.extent("base_dim", base_dim);
  check.extent("decoder_base_dim", decoder_base_dim.value_or(base_dim));
  check.extent("z_dim", z_dim);
  check.extent("num_res_blocks", num_res_blocks, ConfigCheck::kMaxLayers);
  check.extent("the number of dim_mult", static_cast<std::int64_t>(dim_mult.size()), kMaxLevels);
  for (const std::int64_t factor : dim_mult) {
    check.extent("dim_mult", factor, ConfigCheck::kMaxLayers);
  }
  check.equal("the number of temperal_downsample",
              static_cast<std::int64_t>(temperal_downsample.size()),
              static_cast<std::int64_t>(dim_mult.size()) - 1, "dim_mult less one");
  check.supported(attn_scales.empty(), "attn_scales: attention in the levels is not supported");
  for (const auto& [key, values] : {std::pair{"the number of latents_mean", &latents_mean},
                                    std::pair{"the number of latents_std", &latents_std}}) {
    check.equal(key, static_cast<std::int64_t>(values->size()), z_dim, "z_dim");
  }
  for (const double deviation : latents_std) check.positive("latents_std", deviation);
  check.extent("in_channels", in_channels);
  check.equal("out_channels", out_channels, in_channels, "in_channels");
  check.extent("patch_size", patch_size, kMaxPatch);
  check.multiple("out_channels", out_channels, patch_size * patch_size, "patch_size squared");
  check.equal("scale_factor_spatial", scale_factor_spatial, patch_size << (dim_mult.size() - 1),
              "2 per resampling, times patch_size");
  check.equal("scale_factor_temporal", scale_factor_temporal,
              std::int64_t{1} << std::ranges::count(temperal_downsample, true),
              "2 per temperal_downsample");
  if (is_residual) return check_shortcuts(check, *this);
  for (std::size_t block = 0; block + 1 < levels(); ++block) {
    check.multiple("the number of an up block's channels", decoder_channels(block), 2,
                   "what its upsampling divides by");
  }
}

nn::TensorTable wan_vae_table(const WanVaeConfig& config) {
  nn::TensorTable table;
  add_encoder({table, "encoder."}, config);
  add_decoder({table, "decoder."}, config);
  table.add_conv3d("quant_conv", 2 * config.z_dim, 2 * config.z_dim, kPoint);
  table.add_conv3d("post_quant_conv", config.z_dim, config.z_dim, kPoint);
  return table;
}

}  // namespace dither::models
