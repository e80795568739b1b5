#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "models/text/half_rotary.h"
#include "nn/layer_sequence.h"
#include "nn/layers.h"
#include "nn/tensor_table.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// The language models that FLUX.2 reads prompts with: transformers' MistralConfig (the
/// "text_config" of Mistral-Small-3) and Qwen3Config. Members are config.json's keys, defaults are
/// Mistral-Small-3's.
struct CausalLmConfig {
  std::int64_t vocab_size = 131072;
  std::int64_t hidden_size = 5120;
  std::int64_t intermediate_size = 32768;
  std::int64_t num_hidden_layers = 40;
  std::int64_t num_attention_heads = 32;
  std::int64_t num_key_value_heads = 8;
  std::int64_t head_dim = 128;
  double rope_theta = 1e9;
  double rms_norm_eps = 1e-5;
  bool qk_norm = false;  ///< Qwen3: RMSNorm of every query and key head
  /// After how many layers the residual stream is taken; ascending. Layers beyond are not needed.
  std::array<std::int64_t, 3> output_layers = {10, 20, 30};

  std::int64_t used_layers() const { return output_layers.back(); }
  std::int64_t embedding_width() const {
    return static_cast<std::int64_t>(output_layers.size()) * hidden_size;
  }
  /// Throws kDataLoss (impossible values) and kUnsupported, naming the key.
  void validate() const;
};

/// The encoder's layer sequence (nn/layer_sequence.h).
inline constexpr const char* kCausalLmLayers = "layers";

/// Every tensor that is needed: the embedding and the first used_layers() layers. Names may begin
/// with "language_model.model.", "model.language_model." or "model."; later layers, the final norm,
/// the head and the parts that look at pictures are passed over where this checkpoint has them.
nn::TensorTable causal_lm_table(const CausalLmConfig& config, const TensorSource& source);

/// Where the prompt's own tokens lie in a padded sequence.
struct TokenRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// One decoder layer, without biases. Heads of queries share those of keys and values in groups
/// (Ainslie et al. 2023).
class CausalLmLayer {
 public:
  CausalLmLayer(const nn::WeightScope& scope, const CausalLmConfig& config);

  /// x += o(attn(norm x));  x += down(silu(gate norm x) * up norm x).  [1, R, D] -> [1, R, D].
  /// `real` rows see each other causally, rows before them nothing, rows after them all of them.
  Tensor operator()(const Tensor& x, const HalfRotary& rotary, const TokenRange& real) const;

 private:
  Tensor attend(const Tensor& x, const HalfRotary& rotary, const TokenRange& real) const;

  std::int64_t heads_;
  std::int64_t key_value_heads_;
  std::int64_t head_dim_;
  float eps_;
  nn::RmsNorm input_layernorm_;
  nn::Linear qkv_proj_;
  Tensor q_norm_;  ///< [head_dim], or absent
  Tensor k_norm_;
  nn::Linear o_proj_;
  nn::RmsNorm post_attention_layernorm_;
  nn::Linear gate_up_proj_;
  nn::Linear down_proj_;
};

/// A causal language model as a text encoder: residual streams between its layers, side by side.
class CausalLmEncoder {
 public:
  /// `config` was validated and the checkpoint checked against causal_lm_table().
  CausalLmEncoder(const nn::WeightScope& scope, const CausalLmConfig& config);

  /// ids [1, L] kI32 in host memory, of which `real` are not padding -> [1, L, embedding_width()].
  /// Padding is masked as a key. As a query it is computed, as in the reference: in front it sees
  /// no key at all, which counts as an attention of 0, behind it sees the whole prompt.
  /// Throws kInvalidArgument for ids outside of the vocabulary and a range outside of the sequence.
  Tensor operator()(const Tensor& ids, const TokenRange& real) const;

 private:
  CausalLmConfig config_;
  ops::Backend* backend_;
  DType dtype_;
  nn::Embedding embed_tokens_;
  nn::LayerSequence sequence_;
  std::vector<CausalLmLayer> layers_;
};

}  // namespace dither::models
