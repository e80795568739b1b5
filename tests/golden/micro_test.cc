// Tiny random models against diffusers and transformers: make_micro.py says what each is for.
#include "base/error.h"
#include "golden/golden.h"
#include "models/flux1/transformer.h"
#include "models/text/clip_text.h"
#include "models/text/t5_encoder.h"
#include "models/vae/autoencoder_kl.h"

namespace dither::golden {
namespace {

using namespace models;  // NOLINT(google-build-using-namespace)

constexpr double kTolerance = 2e-5;  // relative L2

class MicroGolden : public testing::TestWithParam<std::string> {
 protected:
  PrefixedSource weights(const std::string& model) const { return {*file_, model + ".weights."}; }
  Tensor golden(std::string_view name) const { return file_->read(name); }
  Tensor upload(std::string_view name) const { return backend_->upload(golden(name), DType::kF32); }
  ops::Backend& backend() const { return *backend_; }

  Flux1Transformer flux(const std::string& name, const Flux1Config& config) const {
    return load<Flux1Transformer>(weights(name), flux1_table(config), config, backend(),
                                  DType::kF32);
  }
  Flux1Inputs flux_inputs(const std::string& name, TokenGrid grid,
                          std::optional<float> guidance_scale) const {
    return {.prompt_embeds = upload(name + ".prompt_embeds"),
            .pooled_prompt_embeds = upload(name + ".pooled_prompt_embeds"),
            .timesteps = to_floats(golden(name + ".timesteps")),
            .guidance_scale = guidance_scale,
            .grid = grid};
  }

 private:
  std::unique_ptr<ops::Backend> backend_ = make_backend(GetParam());
  std::unique_ptr<SafetensorsFile> file_ =
      SafetensorsFile::open(source_dir() / "tests/golden/micro.safetensors");
};

constexpr Flux1Config kSchnell = {.in_channels = 16,
                                  .num_layers = 2,
                                  .num_single_layers = 2,
                                  .attention_head_dim = 16,
                                  .num_attention_heads = 2,
                                  .joint_attention_dim = 24,
                                  .pooled_projection_dim = 20,
                                  .guidance_embeds = false,
                                  .axes_dims_rope = {4, 4, 8}};

constexpr Flux1Config kTrueCfg = {.in_channels = 16,
                                  .num_layers = 1,
                                  .num_single_layers = 1,
                                  .attention_head_dim = 24,
                                  .num_attention_heads = 2,
                                  .joint_attention_dim = 24,
                                  .pooled_projection_dim = 20,
                                  .axes_dims_rope = {4, 8, 12}};

TEST_P(MicroGolden, SchnellVelocities) {
  const Flux1Transformer transformer = flux("flux_schnell", kSchnell);
  // Without an embedder guidance is not read: both are the same model.
  for (const std::optional<float> guidance : {std::optional<float>{}, std::optional{7.0F}}) {
    const FluxConditioning conditioning =
        transformer.prepare(flux_inputs("flux_schnell", {3, 5}, guidance));
    const Tensor expected = golden("flux_schnell.velocities");
    for (std::int64_t step = 0; step < expected.dim(0); ++step) {
      SCOPED_TRACE(step);
      const Tensor velocity =
          transformer.velocity(upload("flux_schnell.latents"), conditioning, step);
      EXPECT_LE(relative_l2(velocity, expected.slice(0, step, step + 1).reshape({2, 15, 16})),
                kTolerance);
    }
  }
}

TEST_P(MicroGolden, TrueClassifierFreeGuidance) {
  const Flux1Transformer transformer = flux("flux_true_cfg", kTrueCfg);
  const FluxConditioning conditioning =
      transformer.prepare(flux_inputs("flux_true_cfg", {4, 2}, 3.5F));
  for (std::int64_t step = 0; step < 2; ++step) {
    SCOPED_TRACE(step);
    const Tensor velocity =
        transformer.velocity(upload("flux_true_cfg.latents"), conditioning, step);
    const Tensor positive = velocity.slice(0, 0, 1);
    const Tensor negative = velocity.slice(0, 1, 2);
    const Tensor guided =
        ops::add_scaled(negative, ops::add_scaled(positive, negative, -1.0F), 4.0F);
    EXPECT_LE(relative_l2(guided, golden("flux_true_cfg.guided").slice(0, step, step + 1)),
              kTolerance);
  }
}

TEST_P(MicroGolden, DistilledModelsNeedGuidance) {
  const Flux1Transformer transformer = flux("flux_true_cfg", kTrueCfg);
  EXPECT_THROW(transformer.prepare(flux_inputs("flux_true_cfg", {4, 2}, std::nullopt)), Error);
}

TEST_P(MicroGolden, ClipPoolsAtTheFirstEos) {
  const ClipTextConfig config = {.vocab_size = 60,
                                 .hidden_size = 32,
                                 .intermediate_size = 48,
                                 .num_hidden_layers = 2,
                                 .num_attention_heads = 4,
                                 .max_position_embeddings = 20,
                                 .eos_token_id = 41};
  const PrefixedSource source = weights("clip");
  const auto clip = load<ClipTextEncoder>(source, clip_text_table(config, source), config,
                                          backend(), DType::kF32);
  const ClipTextOutput output = clip(golden("clip.ids"));
  EXPECT_LE(relative_l2(output.last_hidden_state, golden("clip.last_hidden_state")), kTolerance);
  EXPECT_LE(relative_l2(output.pooled, golden("clip.pooled")), kTolerance);
}

TEST_P(MicroGolden, T5BeyondTheLargestDistance) {
  const T5Config config = {
      .vocab_size = 50, .d_model = 32, .d_kv = 8, .d_ff = 40, .num_layers = 2, .num_heads = 3};
  const PrefixedSource source = weights("t5");
  const auto t5 =
      load<T5Encoder>(source, t5_encoder_table(config, source), config, backend(), DType::kF32);
  EXPECT_LE(relative_l2(t5(golden("t5.ids")), golden("t5.last_hidden_state")), kTolerance);
}

TEST_P(MicroGolden, VaeBothWays) {
  const AutoencoderKlConfig config = {.latent_channels = 4,
                                      .block_out_channels = {8, 16, 16, 24},
                                      .layers_per_block = 2,
                                      .norm_num_groups = 8,
                                      .use_quant_conv = true,
                                      .use_post_quant_conv = true};
  const PrefixedSource source = weights("vae");
  const nn::TensorTable table = autoencoder_kl_table(config, source);
  const auto encoder = load<AutoencoderKlEncoder>(source, table, config, backend(), DType::kF32);
  const Tensor mean = encoder(to_nhwc(upload("vae.pixels")));
  EXPECT_LE(relative_l2(to_nchw(mean), golden("vae.mean")), kTolerance);
  const auto decoder = load<AutoencoderKlDecoder>(source, table, config, backend(), DType::kF32);
  const Tensor decoded = decoder(to_nhwc(upload("vae.mean")));
  EXPECT_LE(relative_l2(to_nchw(decoded), golden("vae.decoded")), kTolerance);
}

TEST_P(MicroGolden, EmojiEncoder) {
  const AutoencoderKlConfig config = {
      .block_out_channels = {32, 48, 64, 96}, .layers_per_block = 1, .norm_num_groups = 16};
  const auto source = SafetensorsFile::open(
      source_dir() / "models/emoji-flux/vae/diffusion_pytorch_model.safetensors");
  const auto encoder = load<AutoencoderKlEncoder>(*source, autoencoder_kl_table(config, *source),
                                                  config, backend(), DType::kF32);
  const auto pictures =
      SafetensorsFile::open(source_dir() / "tests/golden/golden_fp32_cuda.safetensors");
  const Tensor pixels = backend().upload(pictures->read("case0.decoded"), DType::kF32);
  EXPECT_LE(relative_l2(to_nchw(encoder(to_nhwc(pixels))), golden("emoji_vae.mean")), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Backends, MicroGolden, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace dither::golden
