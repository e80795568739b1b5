#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "nn/tensor_table.h"

namespace dither::models {

/// diffusers' Flux2Transformer2DModel; members are config.json's keys, defaults are FLUX.2-dev's.
struct Flux2Config {
  std::int64_t patch_size = 1;
  std::int64_t in_channels = 128;
  std::optional<std::int64_t> out_channels = std::nullopt;  ///< absent: in_channels
  std::int64_t num_layers = 8;
  std::int64_t num_single_layers = 48;
  std::int64_t attention_head_dim = 128;
  std::int64_t num_attention_heads = 48;
  std::int64_t joint_attention_dim = 15360;
  std::int64_t timestep_guidance_channels = 256;
  double mlp_ratio = 3.0;
  std::array<std::int64_t, 4> axes_dims_rope = {32, 32, 32, 32};
  double rope_theta = 2000;
  double eps = 1e-6;
  bool guidance_embeds = true;  ///< false: FLUX.2-klein, which has no guidance embedder

  /// D, the width of both streams.
  std::int64_t width() const { return num_attention_heads * attention_head_dim; }
  /// F, the width inside of the feed-forward layers: what SwiGLU leaves of twice as much.
  std::int64_t mlp_width() const {
    return static_cast<std::int64_t>(static_cast<double>(width()) * mlp_ratio);
  }

  /// Throws kDataLoss (impossible values) and kUnsupported, naming the key.
  void validate() const;
};

/// Its layer sequence (nn/layer_sequence.h).
inline constexpr const char* kFlux2Blocks = "blocks";

/// Every tensor of the transformer, in diffusers' names. No layer has a bias.
nn::TensorTable flux2_table(const Flux2Config& config);

}  // namespace dither::models
