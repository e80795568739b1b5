#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "nn/tensor_table.h"

namespace dither::models {

/// diffusers' FluxTransformer2DModel; members are config.json's keys, defaults are FLUX.1-dev's.
struct Flux1Config {
  std::int64_t patch_size = 1;
  std::int64_t in_channels = 64;
  std::optional<std::int64_t> out_channels = std::nullopt;  ///< absent: in_channels
  std::int64_t num_layers = 19;
  std::int64_t num_single_layers = 38;
  std::int64_t attention_head_dim = 128;
  std::int64_t num_attention_heads = 24;
  std::int64_t joint_attention_dim = 4096;
  std::int64_t pooled_projection_dim = 768;
  bool guidance_embeds = true;  ///< false: FLUX.1-schnell, which has no guidance embedder
  std::array<std::int64_t, 3> axes_dims_rope = {16, 56, 56};

  /// D, the width of both streams.
  std::int64_t width() const { return num_attention_heads * attention_head_dim; }
  /// Layers that make shifts, scales and gates of the time: two in a double block, one in a single
  /// block, one of the output.
  std::int64_t modulation_count() const { return 2 * num_layers + num_single_layers + 1; }
  /// Width inside of the feed-forward layers.
  std::int64_t mlp_width() const { return 4 * width(); }

  /// Throws kDataLoss (impossible values) and kUnsupported (variants of FLUX.1 with other inputs),
  /// naming the key.
  void validate() const;
};

/// Its layer sequences (nn/layer_sequence.h): what runs once a trajectory, and what runs in every
/// step.
inline constexpr const char* kFlux1Modulations = "modulations";
inline constexpr const char* kFlux1Blocks = "blocks";

/// Every tensor of the transformer, in diffusers' names.
nn::TensorTable flux1_table(const Flux1Config& config);

}  // namespace dither::models
