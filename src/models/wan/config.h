#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "nn/tensor_table.h"

namespace dither::models {

/// diffusers' WanTransformer3DModel; members are config.json's keys, defaults are those of either
/// expert of Wan2.2-T2V-A14B.
struct WanConfig {
  std::array<std::int64_t, 3> patch_size = {1, 2, 2};
  std::int64_t num_attention_heads = 40;
  std::int64_t attention_head_dim = 128;
  std::int64_t in_channels = 16;  ///< 36 where a picture is given: latents, mask, its latents
  std::optional<std::int64_t> out_channels = 16;  ///< absent: in_channels
  std::int64_t text_dim = 4096;
  std::int64_t freq_dim = 256;
  std::int64_t ffn_dim = 13824;
  std::int64_t num_layers = 40;
  bool cross_attn_norm = true;
  std::optional<std::string> qk_norm = "rms_norm_across_heads";
  double eps = 1e-6;
  std::optional<std::int64_t> image_dim = std::nullopt;          ///< Wan2.1's CLIP: unsupported
  std::optional<std::int64_t> added_kv_proj_dim = std::nullopt;  ///< likewise
  std::int64_t rope_max_seq_len = 1024;                          ///< tokens along one axis

  /// D, the width of the stream.
  std::int64_t width() const { return num_attention_heads * attention_head_dim; }
  /// Channels of a token that goes in, C_in of each of 2 x 2 latents.
  std::int64_t token_width() const { return 4 * in_channels; }
  /// Channels that are denoised.
  std::int64_t latent_channels() const { return out_channels.value_or(in_channels); }
  /// Channels of a token that comes out.
  std::int64_t velocity_width() const { return 4 * latent_channels(); }

  /// Throws kDataLoss (impossible values) and kUnsupported, naming the key.
  void validate() const;
};

/// Its layer sequences (nn/layer_sequence.h): the layers that read the prompt, once a trajectory,
/// and what runs in every step.
inline constexpr const char* kWanTextProjections = "text_projections";
inline constexpr const char* kWanBlocks = "blocks";

/// Every tensor of the transformer, in diffusers' names.
nn::TensorTable wan_table(const WanConfig& config);

}  // namespace dither::models
