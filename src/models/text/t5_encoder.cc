#include "models/text/t5_encoder.h"

#include <fmt/format.h>

#include "base/error.h"
#include "models/config_check.h"
#include "models/text/token_ids.h"
#include "nn/attention.h"
#include "ops/ops.h"
#include "ops/region.h"

namespace dither::models {
namespace {

constexpr std::string_view kSharedEmbedding = "shared.weight";
constexpr std::string_view kEncoderEmbedding = "encoder.embed_tokens.weight";

nn::WeightScope embedding_scope(const nn::WeightScope& scope) {
  return scope.has(kSharedEmbedding) ? scope / "shared" : scope / "encoder" / "embed_tokens";
}

std::int64_t bias_tables(const T5Config& config) {
  return config.bias_in_every_block ? config.num_layers : 1;
}

std::string bias_of(std::int64_t block) {
  return fmt::format("encoder.block.{}.layer.0.SelfAttention.relative_attention_bias", block);
}

float epsilon(const T5Config& config) { return static_cast<float>(config.layer_norm_epsilon); }

}  // namespace

void T5Config::validate() const {
  const ConfigCheck check("T5 encoder");
  check.extent("vocab_size", vocab_size);
  check.extent("d_model", d_model);
  check.extent("d_kv", d_kv);
  check.extent("d_ff", d_ff);
  check.extent("num_layers", num_layers, ConfigCheck::kMaxLayers);
  check.extent("num_heads", num_heads);
  check.extent("relative_attention_num_buckets", relative_attention_num_buckets);
  check.extent("relative_attention_max_distance", relative_attention_max_distance);
  check.supported(relative_attention_num_buckets % 4 == 0 &&
                      relative_attention_max_distance > relative_attention_num_buckets / 4,
                  fmt::format("relative_attention_num_buckets {} with "
                              "relative_attention_max_distance {} leaves no logarithmic buckets",
                              relative_attention_num_buckets, relative_attention_max_distance));
  check.positive("layer_norm_epsilon", layer_norm_epsilon);
  check.supported(feed_forward_proj == "gated-gelu",
                  fmt::format("feed_forward_proj '{}' is not supported, only gated-gelu (v1.1)",
                              feed_forward_proj));
}

nn::TensorTable t5_encoder_table(const T5Config& config, const TensorSource& source) {
  const std::int64_t width = config.d_model;
  const std::int64_t inner = config.num_heads * config.d_kv;
  nn::TensorTable table;
  const bool shared = source.find(kSharedEmbedding) != nullptr;
  table.add(std::string(shared ? kSharedEmbedding : kEncoderEmbedding), {config.vocab_size, width});
  if (shared) table.ignore(std::string(kEncoderEmbedding));
  for (std::int64_t i = 0; i < bias_tables(config); ++i) {
    table.add(bias_of(i) + ".weight", {config.relative_attention_num_buckets, config.num_heads});
  }
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    const std::string block = fmt::format("encoder.block.{}.layer.", i);
    table.in_layer(kT5Blocks, i);
    table.add(block + "0.layer_norm.weight", {width});
    for (const char* projection : {"q", "k", "v"}) {
      table.add_linear(block + "0.SelfAttention." + projection, inner, width, false);
    }
    table.add_linear(block + "0.SelfAttention.o", width, inner, false);
    table.add(block + "1.layer_norm.weight", {width});
    table.add_linear(block + "1.DenseReluDense.wi_0", config.d_ff, width, false);
    table.add_linear(block + "1.DenseReluDense.wi_1", config.d_ff, width, false);
    table.add_linear(block + "1.DenseReluDense.wo", width, config.d_ff, false);
  }
  table.in_layer({});
  table.add("encoder.final_layer_norm.weight", {width});
  return table;
}

T5Block::T5Block(const nn::WeightScope& scope, const T5Config& config)
    : heads_(config.num_heads),
      attention_norm_(scope / "layer.0.layer_norm", epsilon(config)),
      qkv_({scope / "layer.0.SelfAttention.q", scope / "layer.0.SelfAttention.k",
            scope / "layer.0.SelfAttention.v"}),
      o_(scope / "layer.0.SelfAttention.o"),
      feed_forward_norm_(scope / "layer.1.layer_norm", epsilon(config)),
      wi_({scope / "layer.1.DenseReluDense.wi_0", scope / "layer.1.DenseReluDense.wi_1"}),
      wo_(scope / "layer.1.DenseReluDense.wo") {}

Tensor T5Block::operator()(const Tensor& x, const Tensor& bias) const {
  const auto qkv = nn::split_heads(qkv_(attention_norm_(x)), heads_);
  const Tensor attended = ops::attention(qkv, {.scale = 1.0F, .bias = bias});
  const Tensor y = o_(attended, {.residual = x});
  const Tensor gated =
      ops::gated_activation(wi_(feed_forward_norm_(y)), ops::Activation::kGeluTanh);
  return wo_(gated, {.residual = y});
}

T5Encoder::T5Encoder(const nn::WeightScope& scope, const T5Config& config)
    : config_(config),
      backend_(&scope.backend()),
      embed_tokens_(embedding_scope(scope)),
      buckets_(config.relative_attention_num_buckets, config.relative_attention_max_distance,
               scope.backend()),
      layers_(scope, kT5Blocks, config.num_layers),
      final_layer_norm_(scope / "encoder" / "final_layer_norm", epsilon(config)) {
  for (std::int64_t i = 0; i < bias_tables(config); ++i) {
    relative_attention_bias_.push_back((scope / bias_of(i)).upload("weight"));
  }
  const nn::WeightScope blocks = scope / "encoder" / "block";
  for (int i = 0; i < config.num_layers; ++i) {
    layers_.add([&] { blocks_.emplace_back(blocks / i, config); });
  }
}

Tensor T5Encoder::operator()(const Tensor& ids) const {
  Tensor x = embed_tokens_(upload_token_ids(ids, config_.vocab_size, "T5 encoder", *backend_));
  Tensor bias;
  nn::LayerSequence::Pass pass(layers_);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (i < relative_attention_bias_.size()) {
      bias = {};  // frees the last block's before this one's is made
      bias = bias_of_block(i, ids.dim(1));
    }
    x = pass.run(fmt::format("encoder.block.{}", i), [&] { return blocks_[i](x, bias); });
  }
  return final_layer_norm_(x);
}

Tensor T5Encoder::bias_of_block(std::size_t block, std::int64_t length) const {
  const Tensor& table = relative_attention_bias_[block];
  if (config_.bias_in_every_block) return relative_position_bias(table, buckets_(length));
  if (!shared_bias_.defined() || shared_bias_.dim(1) != length) {
    shared_bias_ = {};
    shared_bias_ = relative_position_bias(table, buckets_(length));
  }
  return shared_bias_;
}

Tensor pad_with_zero_rows(const Tensor& embeds, std::int64_t length) {
  if (embeds.rank() != 3 || embeds.dim(1) > length) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("text embeddings are {}, expected [B, n, D] with n <= {}",
                            to_string(embeds), length));
  }
  if (embeds.dim(1) == length) return embeds;
  const Tensor zeros =
      Tensor::host({embeds.dim(0), length - embeds.dim(1), embeds.dim(2)}, embeds.dtype());
  return ops::concat({embeds, ops::backend_of(embeds).upload(zeros, embeds.dtype())}, 1);
}

}  // namespace dither::models
