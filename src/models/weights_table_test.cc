// Names and shapes against checkpoints' headers: one error lists everything that does not fit.
#include <gmock/gmock.h>

#include <algorithm>

#include "base/error.h"
#include "models/flux1/config.h"
#include "models/text/clip_text.h"
#include "models/text/t5_encoder.h"
#include "models/vae/autoencoder_kl.h"
#include "models/vae/wan_config.h"
#include "models/wan/config.h"

namespace dither::models {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// A checkpoint of which only the header exists.
class HeaderOnly final : public TensorSource {
 public:
  HeaderOnly() = default;
  explicit HeaderOnly(const nn::TensorTable& table) {
    for (const nn::TensorSpec& spec : table.specs()) add(spec.name, spec.shape);
  }
  void add(const std::string& name, const Shape& shape) {
    infos_.push_back({name, DType::kBF16, shape, "model.safetensors"});
  }
  void remove(std::string_view name) {
    std::erase_if(infos_, [&](const TensorInfo& info) { return info.name == name; });
  }
  void rename(std::string_view from, const std::string& to) {
    for (TensorInfo& info : infos_) {
      if (info.name == from) info.name = to;
    }
  }
  void reshape(std::string_view name, const Shape& shape) {
    for (TensorInfo& info : infos_) {
      if (info.name == name) info.shape = shape;
    }
  }

  std::string_view description() const override { return "model.safetensors"; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  const TensorInfo* find(std::string_view name) const override {
    const auto it = std::find_if(infos_.begin(), infos_.end(),
                                 [&](const TensorInfo& info) { return info.name == name; });
    return it == infos_.end() ? nullptr : &*it;
  }
  Tensor read(std::string_view name) const override {
    throw Error(ErrorCode::kNotFound, std::string(name));
  }
  void release(const Tensor& /*tensor*/) const override {}

 private:
  std::vector<TensorInfo> infos_;
};

std::string failure(const nn::TensorTable& table, const TensorSource& source) {
  try {
    table.check(source);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    return error.what();
  }
  return "";
}

TEST(WeightsTable, OneErrorListsMissingSurplusAndMisshaped) {
  const nn::TensorTable table = flux1_table({.num_layers = 1, .num_single_layers = 1});
  HeaderOnly source(table);
  EXPECT_EQ(failure(table, source), "");
  source.remove("proj_out.bias");
  source.remove("transformer_blocks.0.attn.norm_added_k.weight");
  source.reshape("x_embedder.weight", {3072, 384});
  source.add("controlnet_x_embedder.weight", {3072, 64});
  EXPECT_THAT(failure(table, source),
              AllOf(HasSubstr("model.safetensors: 4 of"), HasSubstr("missing proj_out.bias [64]"),
                    HasSubstr("missing transformer_blocks.0.attn.norm_added_k.weight [128]"),
                    HasSubstr("x_embedder.weight is [3072, 384], expected [3072, 64]"),
                    HasSubstr("surplus controlnet_x_embedder.weight [3072, 64]")));
}

// 1160 tensors and 11,901,408,320 parameters: FLUX.1-dev as published.
TEST(WeightsTable, Flux1DevHasItsPublishedSize) {
  std::int64_t parameters = 0;
  const nn::TensorTable table = flux1_table({});
  for (const nn::TensorSpec& spec : table.specs()) parameters += element_count(spec.shape);
  EXPECT_EQ(table.specs().size(), 1160U);
  EXPECT_EQ(parameters, 11'901'408'320);
}

struct WanSize {
  const char* name;
  std::int64_t heads, in_channels, ffn_dim, num_layers, parameters;
};

void PrintTo(const WanSize& size, std::ostream* out) { *out << size.name; }

class WanSizes : public testing::TestWithParam<WanSize> {};

TEST_P(WanSizes, ArePublished) {
  WanConfig config;
  config.num_attention_heads = GetParam().heads;
  config.in_channels = GetParam().in_channels;
  if (GetParam().in_channels == 48) config.out_channels = 48;
  config.ffn_dim = GetParam().ffn_dim;
  config.num_layers = GetParam().num_layers;
  std::int64_t parameters = 0;
  const nn::TensorTable table = wan_table(config);
  for (const nn::TensorSpec& spec : table.specs()) {
    parameters += element_count(spec.shape);
    // What diffusers keeps in float32 is so here, whatever the activations are.
    const bool kept = spec.name.find("time_embedder") != std::string::npos ||
                      spec.name.find("norm2") != std::string::npos ||
                      spec.name.ends_with("scale_shift_table");
    EXPECT_EQ(spec.dtype == DType::kF32, kept) << spec.name;
  }
  EXPECT_EQ(parameters, GetParam().parameters);
}

// As diffusers counts them; a picture's 20 channels are 20 x 4 x 5120 more.
INSTANTIATE_TEST_SUITE_P(Table, WanSizes,
                         testing::Values(WanSize{"T2vA14B", 40, 16, 13824, 40, 14'288'491'584},
                                         WanSize{"I2vA14B", 40, 36, 13824, 40, 14'288'901'184},
                                         WanSize{"Ti2v5B", 24, 48, 14336, 30, 4'999'787'712},
                                         WanSize{"Wan21T2v1B", 12, 16, 8960, 30, 1'418'996'800}),
                         [](const auto& size) { return std::string(size.param.name); });

TEST(WeightsTable, SchnellHasNoGuidanceEmbedder) {
  const HeaderOnly schnell(flux1_table({.guidance_embeds = false}));
  EXPECT_EQ(failure(flux1_table({.guidance_embeds = false}), schnell), "");
  EXPECT_THAT(failure(flux1_table({}), schnell),
              HasSubstr("missing time_text_embed.guidance_embedder.linear_1.weight"));
}

// The decoder's parameters as published for FLUX.1.
TEST(WeightsTable, VaeDecoderHasItsPublishedSize) {
  std::int64_t parameters = 0;
  const nn::TensorTable table = autoencoder_kl_table({}, HeaderOnly());
  for (const nn::TensorSpec& spec : table.specs()) {
    if (spec.name.starts_with("decoder.")) parameters += element_count(spec.shape);
  }
  EXPECT_EQ(parameters, 49'545'475);
}

/// TI2V-5B's vae/config.json.
WanVaeConfig wan22_config() {
  WanVaeConfig config;
  config.base_dim = 160;
  config.decoder_base_dim = 256;
  config.z_dim = 48;
  config.latents_mean.assign(48, 0);
  config.latents_std.assign(48, 1);
  config.is_residual = true;
  config.in_channels = config.out_channels = 12;
  config.patch_size = 2;
  config.scale_factor_spatial = 16;
  return config;
}

// As diffusers' AutoencoderKLWan has them: 73.3 and 555 million in the decoders.
TEST(WeightsTable, WanAutoencodersHaveTheirPublishedSizes) {
  struct Size {
    WanVaeConfig config;
    std::size_t tensors;
    std::int64_t parameters, decoder;
  };
  for (const auto& [config, tensors, parameters, decoder] :
       {Size{{}, 194, 126'892'531, 73'295'331},
        Size{wan22_config(), 196, 704'688'668, 555'049'228}}) {
    EXPECT_NO_THROW(config.validate());
    const nn::TensorTable table = wan_vae_table(config);
    std::int64_t all = 0;
    std::int64_t of_decoder = 0;
    for (const nn::TensorSpec& spec : table.specs()) {
      all += element_count(spec.shape);
      if (spec.name.starts_with("decoder.")) of_decoder += element_count(spec.shape);
    }
    EXPECT_EQ(table.specs().size(), tensors);
    EXPECT_EQ(all, parameters);
    EXPECT_EQ(of_decoder, decoder);
  }
}

TEST(WeightsTable, ClipNamesWithAndWithoutPrefix) {
  const ClipTextConfig config = {.num_hidden_layers = 1};
  const HeaderOnly bare(clip_text_table(config, HeaderOnly()));
  EXPECT_NE(bare.find("final_layer_norm.weight"), nullptr);

  HeaderOnly prefixed;
  for (const TensorInfo& info : bare.tensors()) {
    prefixed.add("text_model." + info.name, info.shape);
  }
  prefixed.add("text_model.embeddings.position_ids", {1, 77});
  EXPECT_EQ(failure(clip_text_table(config, prefixed), prefixed), "");
  EXPECT_EQ(failure(clip_text_table(config, bare), bare), "");
}

TEST(WeightsTable, T5EmbeddingUnderEitherName) {
  const T5Config config = {.num_layers = 1};
  HeaderOnly source(t5_encoder_table(config, HeaderOnly()));
  EXPECT_EQ(failure(t5_encoder_table(config, source), source), "");
  source.add("shared.weight", {32128, 4096});  // both: copies of one tensor
  EXPECT_EQ(failure(t5_encoder_table(config, source), source), "");
  source.remove("encoder.embed_tokens.weight");
  EXPECT_EQ(failure(t5_encoder_table(config, source), source), "");
}

// UMT5-XXL's encoder as Wan publishes it: 5.7e9 parameters, a table of biases per block.
TEST(WeightsTable, Umt5HasItsPublishedSize) {
  T5Config config;
  config.vocab_size = 256384;
  config.bias_in_every_block = true;
  std::int64_t parameters = 0;
  std::int64_t biases = 0;
  const nn::TensorTable table = t5_encoder_table(config, HeaderOnly());
  for (const nn::TensorSpec& spec : table.specs()) {
    parameters += element_count(spec.shape);
    if (spec.name.ends_with("relative_attention_bias.weight")) ++biases;
  }
  EXPECT_EQ(parameters, 5'680'910'336);
  EXPECT_EQ(biases, 24);
}

TEST(WeightsTable, VaeAttentionUnderOldNames) {
  HeaderOnly source(autoencoder_kl_table({}, HeaderOnly()));
  const std::string attention = "decoder.mid_block.attentions.0.";
  for (const auto& [name, old_name] : {std::pair{"to_q", "query"},
                                       {"to_k", "key"},
                                       {"to_v", "value"},
                                       {"to_out.0", "proj_attn"}}) {
    for (const char* leaf : {".weight", ".bias"}) {
      source.rename(attention + name + leaf, attention + old_name + leaf);
    }
    source.reshape(attention + old_name + ".weight", {512, 512, 1, 1});
  }
  EXPECT_EQ(failure(autoencoder_kl_table({}, source), source), "");
  source.remove(attention + "key.weight");
  EXPECT_THAT(failure(autoencoder_kl_table({}, source), source),
              AllOf(HasSubstr("missing " + attention + "key.weight"), Not(HasSubstr("to_k"))));
}

}  // namespace
}  // namespace dither::models
