// The demo model against diffusers: tests/golden/README.md says what the files hold.
#include <fmt/format.h>

#include "golden/golden.h"
#include "models/flux/latents.h"
#include "pipelines/flux1/flux1_components.h"

namespace dither::golden {
namespace {

constexpr float kGuidanceScale = 3.5F;
constexpr models::TokenGrid kGrid = {8, 8};

/// The demo model on one backend and in one dtype, with the golden file of that dtype.
class EmojiFlux {
 public:
  EmojiFlux(std::string_view backend, DType dtype)
      : backend_(make_backend(backend)),
        dtype_(dtype),
        parts_(load_flux1_components(ModelFolder::open(source_dir() / "models/emoji-flux"),
                                     *backend_, dtype)),
        goldens_(SafetensorsFile::open(source_dir() / "tests/golden" /
                                       (dtype == DType::kF32 ? "golden_fp32_cuda.safetensors"
                                                             : "golden_bf16_cuda.safetensors"))) {}

  const Flux1Components& parts() const { return parts_; }
  const models::AutoencoderKlConfig& vae_config() const { return parts_.configs.vae; }

  Tensor golden(int index, std::string_view what) const {
    return goldens_->read(fmt::format("case{}.{}", index, what));
  }
  Tensor upload(int index, std::string_view what) const {
    return backend_->upload(golden(index, what), dtype_);
  }
  models::Flux1Inputs inputs(int index) const {
    return {.prompt_embeds = upload(index, "t5_embeds"),
            .pooled_prompt_embeds = upload(index, "clip_pooled"),
            .timesteps = to_floats(golden(0, "timesteps")),
            .guidance_scale = kGuidanceScale,
            .grid = kGrid};
  }

 private:
  std::unique_ptr<ops::Backend> backend_;
  DType dtype_;
  Flux1Components parts_;
  std::unique_ptr<SafetensorsFile> goldens_;
};

class EmojiFluxGolden : public testing::TestWithParam<std::string> {};

TEST_P(EmojiFluxGolden, TextEncoders) {
  const EmojiFlux model(GetParam(), DType::kF32);
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    const Tensor pooled = model.parts().text_encoder(model.golden(i, "clip_ids")).pooled;
    EXPECT_LE(relative_l2(pooled, model.golden(i, "clip_pooled")), 2e-5);
    const Tensor embeds = model.parts().text_encoder_2(model.golden(i, "t5_ids"));
    EXPECT_LE(relative_l2(embeds, model.golden(i, "t5_embeds")), 2e-5);
  }
}

TEST_P(EmojiFluxGolden, FirstVelocity) {
  const EmojiFlux model(GetParam(), DType::kF32);
  const models::Flux1Transformer& transformer = model.parts().transformer;
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    const models::FluxConditioning conditioning = transformer.prepare(model.inputs(i));
    const Tensor velocity =
        transformer.velocity(model.upload(i, "initial_latents"), conditioning, 0);
    EXPECT_LE(relative_l2(velocity, model.golden(i, "step0_output")), 2e-5);
  }
}

TEST_P(EmojiFluxGolden, LatentsAfterEveryStep) {
  const EmojiFlux model(GetParam(), DType::kF32);
  const models::Flux1Transformer& transformer = model.parts().transformer;
  const std::vector<float> sigmas = to_floats(model.golden(0, "sigmas"));
  const int cases = GetParam() == "reference" ? 1 : 3;  // its loops are slow
  for (int i = 0; i < cases; ++i) {
    const models::FluxConditioning conditioning = transformer.prepare(model.inputs(i));
    const Tensor expected = model.golden(i, "latents");
    Tensor latents = model.upload(i, "initial_latents");
    for (std::size_t step = 0; step + 1 < sigmas.size(); ++step) {
      SCOPED_TRACE(fmt::format("case {} step {}", i, step));
      const auto row = static_cast<std::int64_t>(step);
      const Tensor velocity = transformer.velocity(latents, conditioning, row);
      latents = ops::add_scaled(latents, velocity, sigmas[step + 1] - sigmas[step]);
      ASSERT_LE(relative_l2(latents, expected.slice(0, row, row + 1)), 1e-4);
    }
    const auto cpu_run =
        SafetensorsFile::open(source_dir() / "tests/golden/golden_fp32_cpu.safetensors");
    EXPECT_LE(relative_l2(latents, cpu_run->read(fmt::format("case{}.final_latents", i))), 1e-4);
  }
}

// Noise is drawn as [B, C, h, w] and packed from a permuted view.
TEST_P(EmojiFluxGolden, PackingInvertsUnpacking) {
  const EmojiFlux model(GetParam(), DType::kF32);
  const Tensor tokens = model.upload(0, "initial_latents");
  const Tensor nchw = to_nchw(models::unpack_latents(tokens, kGrid));
  EXPECT_EQ(to_floats(models::pack_latents(nchw.permute({0, 2, 3, 1}))), to_floats(tokens));
}

TEST_P(EmojiFluxGolden, DecodedImage) {
  const EmojiFlux model(GetParam(), DType::kF32);
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    const Tensor latents =
        models::unpack_latents(model.upload(i, "latents").slice(0, 19, 20), kGrid);
    const Tensor z = models::unscale_latents(latents, model.vae_config());
    EXPECT_LE(relative_l2(to_nchw(z), model.golden(i, "vae_input")), 1e-6);
    EXPECT_LE(relative_l2(to_nchw(model.parts().vae(z)), model.golden(i, "decoded")), 2e-5);
  }
}

// From the bfloat16 run's noise through our own encoders: that run rounds in other places than we
// do, so only the direction of the result is compared.
TEST_P(EmojiFluxGolden, BFloat16EndToEnd) {
  const EmojiFlux model(GetParam(), DType::kBF16);
  const models::Flux1Transformer& transformer = model.parts().transformer;
  const std::vector<float> sigmas = to_floats(model.golden(0, "sigmas"));
  const int cases = GetParam() == "reference" ? 1 : 3;
  for (int i = 0; i < cases; ++i) {
    SCOPED_TRACE(i);
    models::Flux1Inputs inputs = model.inputs(i);
    inputs.prompt_embeds = model.parts().text_encoder_2(model.golden(i, "t5_ids"));
    inputs.pooled_prompt_embeds = model.parts().text_encoder(model.golden(i, "clip_ids")).pooled;
    const models::FluxConditioning conditioning = transformer.prepare(inputs);
    Tensor latents = model.upload(i, "initial_latents");
    for (std::size_t step = 0; step + 1 < sigmas.size(); ++step) {
      const Tensor velocity =
          transformer.velocity(latents, conditioning, static_cast<std::int64_t>(step));
      latents = ops::add_scaled(latents, velocity, sigmas[step + 1] - sigmas[step]);
    }
    EXPECT_GE(cosine(latents, model.golden(i, "latents").slice(0, 19, 20)), 0.999);
    const Tensor z =
        models::unscale_latents(models::unpack_latents(latents, kGrid), model.vae_config());
    EXPECT_GE(cosine(to_nchw(model.parts().vae(z)), model.golden(i, "decoded")), 0.999);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, EmojiFluxGolden, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace dither::golden
