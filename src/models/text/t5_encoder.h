#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/text/relative_position_bias.h"
#include "nn/layer_sequence.h"
#include "nn/layers.h"
#include "nn/tensor_table.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// transformers' T5Config and UMT5Config; members are config.json's keys but for the last, defaults
/// are T5 v1.1 XXL's.
struct T5Config {
  std::int64_t vocab_size = 32128;
  std::int64_t d_model = 4096;
  std::int64_t d_kv = 64;
  std::int64_t d_ff = 10240;
  std::int64_t num_layers = 24;
  std::int64_t num_heads = 64;
  std::int64_t relative_attention_num_buckets = 32;
  std::int64_t relative_attention_max_distance = 128;
  double layer_norm_epsilon = 1e-6;
  std::string feed_forward_proj = "gated-gelu";
  /// UMT5 (Chung et al. 2023): every block has a table of relative position biases. Else, as in T5,
  /// all blocks use that of the first.
  bool bias_in_every_block = false;

  /// Throws kDataLoss (impossible values) and kUnsupported, naming the key.
  void validate() const;
};

/// The encoder's layer sequence (nn/layer_sequence.h).
inline constexpr const char* kT5Blocks = "blocks";

/// Every tensor of the encoder. The tables of position biases, 4 to 8 KiB each, lie outside of the
/// layer sequence: they stay on the device. The token embedding is "shared.weight", or
/// "encoder.embed_tokens.weight" where this checkpoint has only that; a second copy is ignored.
nn::TensorTable t5_encoder_table(const T5Config& config, const TensorSource& source);

/// One encoder block: self-attention and a gated feed-forward layer, both behind an RMSNorm,
/// without biases.
class T5Block {
 public:
  T5Block(const nn::WeightScope& scope, const T5Config& config);

  /// x += o(attn(norm x));  x += wo(gelu(wi_0 norm x) * wi_1 norm x).  [B, L, D] -> [B, L, D];
  /// `bias` [H, L, L] is added to the scores, which T5 does not scale.
  Tensor operator()(const Tensor& x, const Tensor& bias) const;

 private:
  std::int64_t heads_;
  nn::RmsNorm attention_norm_;
  nn::Linear qkv_;
  nn::Linear o_;
  nn::RmsNorm feed_forward_norm_;
  nn::Linear wi_;
  nn::Linear wo_;
};

/// The encoder of T5 v1.1 (Raffel et al. 2020; Shazeer 2020 for the gated layer) or UMT5. Every
/// token is attended to: FLUX.1 wants that of padding too, Wan masks it, which is the same as
/// leaving it away.
class T5Encoder {
 public:
  /// `config` was validated and the checkpoint checked against t5_encoder_table().
  T5Encoder(const nn::WeightScope& scope, const T5Config& config);

  /// ids [B, L] kI32 in host memory -> last hidden state [B, L, D]. Throws kInvalidArgument for ids
  /// outside of the vocabulary.
  Tensor operator()(const Tensor& ids) const;

 private:
  /// [H, length, length]. The one that all blocks share is remembered: prompts share their length.
  Tensor bias_of_block(std::size_t block, std::int64_t length) const;

  T5Config config_;
  ops::Backend* backend_;
  nn::Embedding embed_tokens_;
  RelativePositionBuckets buckets_;
  std::vector<Tensor> relative_attention_bias_;  ///< of every block, or block 0's for all
  mutable Tensor shared_bias_;
  nn::LayerSequence layers_;
  std::vector<T5Block> blocks_;
  nn::RmsNorm final_layer_norm_;
};

/// The same embeddings followed by rows of zeros, as WanPipeline pads them behind the encoder.
/// embeds [B, n, D], n <= length -> [B, length, D]. Throws kInvalidArgument for more rows.
Tensor pad_with_zero_rows(const Tensor& embeds, std::int64_t length);

}  // namespace dither::models
