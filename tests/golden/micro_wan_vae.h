#pragma once

#include <cstdint>
#include <string_view>

#include "models/vae/wan_config.h"

namespace dither::golden {

/// Of the autoencoders in wan/vae.safetensors, "wan21" and "wan22".
inline models::WanVaeConfig micro_wan_vae(std::string_view name) {
  models::WanVaeConfig config;
  config.num_res_blocks = 1;
  config.base_dim = 4;
  config.dim_mult = {1, 2, 3, 3};
  config.z_dim = 4;
  if (name == "wan22") {
    config.z_dim = 6;
    config.base_dim = 2;
    config.decoder_base_dim = 4;
    config.dim_mult = {1, 2, 4, 4};
    config.is_residual = true;
    config.in_channels = config.out_channels = 12;
    config.patch_size = 2;
    config.scale_factor_spatial = 16;
  }
  config.latents_mean.clear();
  config.latents_std.clear();
  for (std::int64_t i = 0; i < config.z_dim; ++i) {
    config.latents_mean.push_back(0.3 * (static_cast<double>(i) - 1.5));
    config.latents_std.push_back(0.5 + 0.4 * static_cast<double>(i));
  }
  return config;
}

}  // namespace dither::golden
