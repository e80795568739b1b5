#include "pipelines/t5_configs.h"

#include <string>

#include "pipelines/component_configs.h"

namespace dither {
namespace {

models::T5Config read_t5_keys(const JsonConfig& json) {
  json.expect<bool>("is_gated_act", true);
  json.expect<std::string>("dense_act_fn", "gelu_new");
  json.expect<bool>("is_decoder", false);
  models::T5Config config;
  config.vocab_size = json.get<std::int64_t>("vocab_size");
  config.d_model = json.get<std::int64_t>("d_model");
  config.d_kv = json.get<std::int64_t>("d_kv");
  config.d_ff = json.get<std::int64_t>("d_ff");
  config.num_layers = json.get<std::int64_t>("num_layers");
  config.num_heads = json.get<std::int64_t>("num_heads");
  config.relative_attention_num_buckets = json.get<std::int64_t>(
      "relative_attention_num_buckets", config.relative_attention_num_buckets);
  config.relative_attention_max_distance = json.get<std::int64_t>(
      "relative_attention_max_distance", config.relative_attention_max_distance);
  config.layer_norm_epsilon = json.get<double>("layer_norm_epsilon", config.layer_norm_epsilon);
  config.feed_forward_proj = json.get<std::string>("feed_forward_proj");
  ignore_transformers_keys(json);
  json.ignore({"classifier_dropout", "decoder_start_token_id", "dropout_rate", "eos_token_id",
               "is_encoder_decoder", "n_positions", "num_decoder_layers", "output_past",
               "scale_decoder_outputs", "task_specific_params"});
  return config;
}

}  // namespace

models::T5Config parse_t5_config(const JsonConfig& json) {
  json.expect<std::string>("model_type", "t5");
  models::T5Config config = read_t5_keys(json);
  finish_config(json, [&] { config.validate(); });
  return config;
}

models::T5Config parse_umt5_config(const JsonConfig& json) {
  json.expect<std::string>("model_type", "umt5");
  models::T5Config config = read_t5_keys(json);
  config.bias_in_every_block = true;
  json.ignore({"scalable_attention", "tokenizer_class"});  // transformers reads neither
  finish_config(json, [&] { config.validate(); });
  return config;
}

}  // namespace dither
