#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/layers.h"
#include "nn/tensor_table.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// transformers' CLIPTextConfig; members are config.json's keys, defaults are CLIP ViT-L/14's.
struct ClipTextConfig {
  std::int64_t vocab_size = 49408;
  std::int64_t hidden_size = 768;
  std::int64_t intermediate_size = 3072;
  std::int64_t num_hidden_layers = 12;
  std::int64_t num_attention_heads = 12;
  std::int64_t max_position_embeddings = 77;
  std::string hidden_act = "quick_gelu";
  double layer_norm_eps = 1e-5;
  std::int32_t eos_token_id = 49407;

  /// Throws kDataLoss (impossible values) and kUnsupported, naming the key.
  void validate() const;
};

/// Every tensor of the text model, in the spelling of this checkpoint: with or without the prefix
/// "text_model.".
nn::TensorTable clip_text_table(const ClipTextConfig& config, const TensorSource& source);

struct ClipTextOutput {
  Tensor last_hidden_state;  ///< [B, L, D], after the final norm
  Tensor pooled;             ///< [B, D], its row at the end-of-text token
};

/// One pre-norm transformer layer.
class ClipTextLayer {
 public:
  ClipTextLayer(const nn::WeightScope& scope, const ClipTextConfig& config);

  /// x += out(attn(LN1 x));  x += fc2(act(fc1(LN2 x))).  [B, L, D] -> [B, L, D].
  Tensor operator()(const Tensor& x) const;

 private:
  std::int64_t heads_;
  float scale_;  ///< 1 / sqrt(D / H)
  ops::Activation activation_;
  nn::LayerNorm layer_norm1_;
  nn::Linear qkv_proj_;
  nn::Linear out_proj_;
  nn::LayerNorm layer_norm2_;
  nn::Linear fc1_;
  nn::Linear fc2_;
};

/// The text tower of CLIP (Radford et al. 2021): causal attention, padding is not masked.
class ClipTextEncoder {
 public:
  /// `config` was validated and the checkpoint checked against clip_text_table().
  ClipTextEncoder(const nn::WeightScope& scope, const ClipTextConfig& config);

  /// ids [B, L] kI32 in host memory, L <= max_position_embeddings. Throws kInvalidArgument for ids
  /// outside of the vocabulary and for longer texts.
  ClipTextOutput operator()(const Tensor& ids) const;

 private:
  ClipTextConfig config_;
  ops::Backend* backend_;
  nn::Embedding token_embedding_;
  Tensor position_embedding_;  ///< [max_position_embeddings, D]
  std::vector<ClipTextLayer> layers_;
  nn::LayerNorm final_layer_norm_;
};

/// The row that `pooled` takes from each text.  ids [B, L] kI32 -> [B, 1] kI32, indices into B * L
/// rows. transformers' rule: the first eos_token_id, or the first row where there is none;
/// checkpoints that say eos_token_id 2 predate the right value, for them the first largest id.
Tensor clip_pooled_rows(const Tensor& ids, std::int32_t eos_token_id);

}  // namespace dither::models
