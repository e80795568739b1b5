#include "pipelines/t5_configs.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// config.json of Wan2.2's text encoder (google/umt5-xxl), and what transformers 5 adds to it.
nlohmann::json published() {
  return nlohmann::json::parse(R"({
    "architectures": ["UMT5EncoderModel"], "classifier_dropout": 0.0, "d_ff": 10240, "d_kv": 64,
    "d_model": 4096, "decoder_start_token_id": 0, "dense_act_fn": "gelu_new",
    "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
    "initializer_factor": 1.0, "is_decoder": false, "is_encoder_decoder": true,
    "is_gated_act": true, "layer_norm_epsilon": 1e-06, "model_type": "umt5",
    "num_decoder_layers": 24, "num_heads": 64, "num_layers": 24, "output_past": true,
    "pad_token_id": 0, "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32, "scalable_attention": true,
    "scale_decoder_outputs": true, "tie_word_embeddings": false, "tokenizer_class": "T5Tokenizer",
    "dtype": "bfloat16", "transformers_version": "4.48.0", "use_cache": true,
    "vocab_size": 256384})");
}

JsonConfig json_config(const nlohmann::json& json) {
  return JsonConfig::parse(json.dump(), "text_encoder/config.json");
}

TEST(T5Configs, Umt5AsWanPublishesIt) {
  const JsonConfig json = json_config(published());
  const models::T5Config config = parse_umt5_config(json);
  EXPECT_EQ(config.vocab_size, 256384);
  EXPECT_EQ(config.num_heads, 64);
  EXPECT_TRUE(config.bias_in_every_block);
  EXPECT_THAT(json.unread_keys(), IsEmpty());
}

TEST(T5Configs, T5AndUmt5AreNotEachOther) {
  nlohmann::json json = published();
  EXPECT_THAT(error_of([&] { parse_t5_config(json_config(json)); }).what(), HasSubstr("\"umt5\""));
  json["model_type"] = "t5";
  EXPECT_FALSE(parse_t5_config(json_config(json)).bias_in_every_block);
  EXPECT_THAT(error_of([&] { parse_umt5_config(json_config(json)); }).what(),
              HasSubstr("model_type"));
}

TEST(T5Configs, RefusesDecodersAndOtherActivations) {
  for (const auto& [key, value] : {std::pair<const char*, nlohmann::json>{"is_decoder", true},
                                   {"is_gated_act", false},
                                   {"dense_act_fn", "relu"},
                                   {"feed_forward_proj", "gated-silu"}}) {
    nlohmann::json json = published();
    json[key] = value;
    const Error error = error_of([&] { parse_umt5_config(json_config(json)); });
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << key;
    EXPECT_THAT(error.what(), HasSubstr(key));
  }
}

}  // namespace
}  // namespace dither
