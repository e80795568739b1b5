// Tiny FLUX.2 pipelines, stage by stage, against diffusers: make_micro_flux2.py says what is what.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <fstream>

#include "base/test_util.h"
#include "golden/golden.h"
#include "golden/images.h"
#include "models/flux/latents.h"
#include "pipelines/flow_pipeline.h"
#include "pipelines/flux2/flux2_components.h"
#include "runtime/load.h"
#include "tokenizers/load_tokenizer.h"

namespace dither::golden {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

constexpr double kTolerance = 2e-5;  // relative L2
constexpr const char* kPrompt = "A red fox, 3 apples & a café in the snow";
constexpr int kSequenceLength = 256;
constexpr models::TokenGrid kGrid = {.rows = 3, .cols = 4};  // 64 x 48 pixels
constexpr std::int64_t kSteps = 3;

fs::path micro_folder() { return source_dir() / "tests/golden/flux2"; }

Tensor step_of(const Tensor& tensor, std::int64_t step) { return tensor.slice(0, step, step + 1); }

/// The components of one of the folders on a backend, in float32.
class Flux2Stages : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  const std::string& name() const { return std::get<1>(GetParam()); }
  Tensor golden(std::string_view what) const {
    return file_->read(fmt::format("{}.{}", name(), what));
  }
  Tensor upload(std::string_view what) const { return backend_->upload(golden(what), DType::kF32); }
  ops::Backend& backend() const { return *backend_; }
  const Flux2Components& components() const { return components_; }
  const Flux2Variant& variant() const { return *components_.configs.variant; }

  TokenIds tokens(const std::string& prompt) const {
    return components_.tokenizer->encode_chat(variant().chat(prompt).text, kSequenceLength,
                                              variant().padding_side);
  }
  Tensor embeds(const TokenIds& tokens) const {
    return components_.text_encoder(id_tensor(tokens),
                                    {.first = static_cast<std::int64_t>(tokens.first),
                                     .count = static_cast<std::int64_t>(tokens.count)});
  }
  models::FluxConditioning conditioning() const {
    return components_.transformer.prepare({.prompt_embeds = upload("prompt_embeds"),
                                            .timesteps = to_floats(golden("timesteps")),
                                            .guidance_scale = 4.0F,
                                            .grid = kGrid});
  }

 private:
  std::unique_ptr<ops::Backend> backend_ = make_backend(std::get<0>(GetParam()));
  std::unique_ptr<SafetensorsFile> file_ =
      SafetensorsFile::open(micro_folder() / "micro.safetensors");
  Flux2Components components_ =
      load_flux2_components(ModelFolder::open(micro_folder() / name()), *backend_, DType::kF32);
};

TEST_P(Flux2Stages, TokenIdsAreIdentical) {
  std::string many;
  for (int i = 0; i < 20; ++i) many += kPrompt;
  for (const auto& [prompt, what] : {std::pair<std::string, const char*>{kPrompt, "ids"},
                                     std::pair<std::string, const char*>{many, "ids_cut"}}) {
    const Tensor ids = golden(what);
    EXPECT_THAT(tokens(prompt).ids, ElementsAreArray(ids.data<std::int32_t>(), kSequenceLength))
        << what;
  }
}

/// Rows of the prompt and of padding apart: the reference masks, positions and computes both.
TEST_P(Flux2Stages, PromptEmbeds) {
  const TokenIds prompt = tokens(kPrompt);
  const Tensor actual = embeds(prompt);
  const Tensor expected = golden("prompt_embeds");
  const auto first = static_cast<std::int64_t>(prompt.first);
  const auto end = first + static_cast<std::int64_t>(prompt.count);
  const std::int64_t width = expected.dim(2) / 3;
  for (int layer = 0; layer < 3; ++layer) {
    SCOPED_TRACE(layer);
    const auto of_layer = [&](const Tensor& t) {
      return ops::contiguous(
          backend().upload(t, DType::kF32).slice(2, layer * width, (layer + 1) * width));
    };
    const Tensor a = of_layer(backend().download(actual));
    const Tensor e = of_layer(expected);
    const auto rows_agree = [&](std::int64_t begin, std::int64_t stop) {
      EXPECT_LE(relative_l2(a.slice(1, begin, stop), e.slice(1, begin, stop)), kTolerance);
    };
    rows_agree(first, end);
    if (first > 0) rows_agree(0, first);
    if (end < kSequenceLength) rows_agree(end, kSequenceLength);
  }
}

/// What klein base is guided away from.
TEST_P(Flux2Stages, EmptyPrompt) {
  if (name() != "klein") return;  // dev has no negative prompt
  const auto file = SafetensorsFile::open(micro_folder() / "micro.safetensors");
  EXPECT_LE(relative_l2(embeds(tokens("")), file->read("base.negative_embeds")), kTolerance);
}

TEST_P(Flux2Stages, Refusals) {
  const TokenIds prompt = tokens(kPrompt);
  const auto encode = [&](models::TokenRange real) {
    return error_of([&] { components().text_encoder(id_tensor(prompt), real); });
  };
  for (const models::TokenRange real :
       {models::TokenRange{0, 0}, models::TokenRange{-1, 2}, models::TokenRange{200, 57}}) {
    EXPECT_EQ(encode(real).code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(encode(real).what(), HasSubstr("language model: tokens"));
  }
  TokenIds wild = prompt;
  wild.ids.back() = 1 << 20;
  EXPECT_THAT(error_of([&] { embeds(wild); }).what(), HasSubstr("1048576"));
  EXPECT_THAT(error_of([&] {
                components().transformer.prepare({.prompt_embeds = upload("prompt_embeds"),
                                                  .timesteps = {1000},
                                                  .guidance_scale = 4.0F,
                                                  .grid = kGrid,
                                                  .reference_grids = {kGrid}});
              }).what(),
              HasSubstr("0 reference tokens, their grids have 12"));
}

TEST_P(Flux2Stages, Modulations) {
  EXPECT_LE(relative_l2(conditioning().modulations, golden("modulations")), kTolerance);
}

TEST_P(Flux2Stages, Velocities) {
  const models::FluxConditioning given = conditioning();
  const Tensor velocities = golden("velocities");
  const Tensor latents = golden("latents");
  for (std::int64_t step = 0; step < kSteps; ++step) {
    SCOPED_TRACE(step);
    const Tensor before = step == 0 ? upload("initial_latents")
                                    : backend().upload(step_of(latents, step - 1), DType::kF32);
    EXPECT_LE(relative_l2(components().transformer.velocity(before, given, step),
                          step_of(velocities, step)),
              kTolerance);
  }
}

TEST_P(Flux2Stages, LatentsOfTheDecoder) {
  const Tensor last = backend().upload(step_of(golden("latents"), kSteps - 1), DType::kF32);
  const models::LatentNorm& norm = components().latent_norm;
  const Tensor z = models::unpack_latents(norm.denormalize(last), kGrid);
  EXPECT_LE(relative_l2(to_nchw(z), golden("vae_input")), 1e-6);
  EXPECT_LE(relative_l2(norm.normalize(norm.denormalize(last)), last), 1e-6);
}

TEST_P(Flux2Stages, DecodedImage) {
  const Tensor decoded = components().vae(to_nhwc(upload("vae_input")));
  EXPECT_LE(relative_l2(to_nchw(decoded), golden("decoded")), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Table, Flux2Stages,
                         testing::Combine(testing::ValuesIn(backends()),
                                          testing::Values("dev", "klein")),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" + std::get<1>(test.param);
                         });

TEST(Flux2Vae, DecoderMayBeNarrower) {
  const models::AutoencoderKlConfig config = {.latent_channels = 4,
                                              .block_out_channels = {8, 16, 16, 16},
                                              .decoder_block_out_channels = {8, 8, 8, 16},
                                              .layers_per_block = 1,
                                              .norm_num_groups = 8,
                                              .use_quant_conv = true,
                                              .use_post_quant_conv = true};
  const auto file = SafetensorsFile::open(micro_folder() / "micro.safetensors");
  const PrefixedSource source(*file, "small_decoder.weights.");
  for (const std::string& name : backends()) {
    SCOPED_TRACE(name);
    const auto backend = make_backend(name);
    const auto decoder = golden::load<models::AutoencoderKlDecoder>(
        source, models::flux2_vae_table(config, source), config, *backend, DType::kF32);
    const Tensor z = backend->upload(file->read("small_decoder.z"), DType::kF32);
    EXPECT_LE(relative_l2(to_nchw(decoder(to_nhwc(z))), file->read("small_decoder.decoded")),
              kTolerance);
  }
}

GenerateRequest micro_request() {
  GenerateRequest request;
  request.prompt = kPrompt;
  request.width = 64;
  request.height = 48;
  request.num_inference_steps = kSteps;
  request.max_sequence_length = kSequenceLength;
  request.seed = 7;
  request.record_trajectory = true;
  return request;
}

/// A copy of the klein folder that is not distilled: weights are the same, guidance is not.
class KleinBase {
 public:
  KleinBase() {
    fs::copy(micro_folder() / "klein", folder_.path(), fs::copy_options::recursive);
    std::ofstream(folder_.path() / "model_index.json") << R"({
      "_class_name": "Flux2KleinPipeline",
      "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
      "text_encoder": ["transformers", "Qwen3ForCausalLM"],
      "tokenizer": ["transformers", "Qwen2TokenizerFast"],
      "transformer": ["diffusers", "Flux2Transformer2DModel"],
      "vae": ["diffusers", "AutoencoderKLFlux2"]})";
  }
  const fs::path& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
};

struct PipelineCase {
  const char* name;    ///< of the goldens
  const char* folder;  ///< of the model
  std::optional<double> guidance_scale;
  int references = 0;
};

class Flux2Golden : public testing::TestWithParam<PipelineCase> {
 protected:
  LoadedPipeline load(DType dtype) const {
    const std::string name = GetParam().folder;
    const fs::path folder = name == "base" ? base_.path() : micro_folder() / name;
    return load_pipeline({.model_path = folder, .dtype = dtype}, make_backend("cpu"));
  }
  GeneratedOutput draw(DType dtype) const {
    GenerateRequest request = micro_request();
    request.guidance_scale = GetParam().guidance_scale;
    for (int i = 0; i < GetParam().references; ++i) {
      request.references.push_back({.path = "", .image = picture(fmt::format("reference{}", i))});
    }
    const LoadedPipeline loaded = load(dtype);
    return std::move(loaded.pipeline->generate(request, {}).outputs.at(0));
  }
  static Tensor golden(std::string_view what) {
    return SafetensorsFile::open(micro_folder() / "micro.safetensors")
        ->read(fmt::format("{}.{}", GetParam().name, what));
  }
  static Image picture(std::string_view what) { return image_of(golden(what)); }

 private:
  KleinBase base_;
};

TEST_P(Flux2Golden, FloatTrajectoryFollowsDiffusers) {
  const GeneratedOutput drawn = draw(DType::kF32);
  const Trajectory& trajectory = drawn.trajectory.value();
  const Tensor latents = golden("latents");
  for (std::int64_t step = 0; step < kSteps; ++step) {
    EXPECT_LE(relative_l2(trajectory.latents.slice(1, step, step + 1).reshape({1, 12, 16}),
                          step_of(latents, step)),
              kTolerance)
        << "after step " << step;
  }
  expect_image(drawn.image(), picture("picture"));
}

TEST_P(Flux2Golden, BFloat16StaysClose) {
  const Trajectory trajectory = draw(DType::kBF16).trajectory.value();
  const Tensor first = trajectory.latents.slice(1, 0, 1).reshape({1, 12, 16});
  EXPECT_GE(cosine(first, step_of(golden("latents"), 0)), 0.999);
}

INSTANTIATE_TEST_SUITE_P(Table, Flux2Golden,
                         testing::Values(PipelineCase{"dev", "dev", 4.0},
                                         PipelineCase{"klein", "klein", {}},
                                         PipelineCase{"base", "base", 3.0},
                                         PipelineCase{"edit", "dev", 4.0, 2}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Flux2Schedule, IsDiffusers) {
  const auto file = SafetensorsFile::open(micro_folder() / "micro.safetensors");
  for (const char* name : {"dev", "klein"}) {
    const auto loaded = load_pipeline({.model_path = micro_folder() / name, .dtype = DType::kF32},
                                      make_backend("cpu"));
    const auto result = loaded.pipeline->generate(micro_request(), {});
    const Trajectory& trajectory = result.outputs.at(0).trajectory.value();
    EXPECT_EQ(to_floats(trajectory.initial_latents),
              to_floats(file->read(fmt::format("{}.initial_latents", name))));
    EXPECT_EQ(to_floats(trajectory.sigmas), to_floats(file->read(fmt::format("{}.sigmas", name))));
    EXPECT_EQ(to_floats(trajectory.timesteps),
              to_floats(file->read(fmt::format("{}.timesteps", name))));
  }
}

TEST(Flux2Prompt, IsCutWithAWarningThatShowsWhere) {
  GenerateRequest request = micro_request();
  request.prompt = "an oil painting of three apples on a wooden table: the end";
  request.max_sequence_length = 16;
  const auto loaded = load_pipeline({.model_path = micro_folder() / "klein", .dtype = DType::kF32},
                                    make_backend("cpu"));
  const auto result = loaded.pipeline->generate(request, {});
  EXPECT_THAT(result.warnings, ElementsAre(testing::AllOf(HasSubstr("prompt: Qwen3 reads 16 of"),
                                                          HasSubstr(" the end"))));
}

TEST(Flux2MemoryPlan, IsForTheSizeThatIsMade) {
  LoadOptions options{.model_path = micro_folder() / "klein"};
  GenerateRequest request = micro_request();
  request.height = std::nullopt;
  request.references.push_back({.path = "", .image = solid_image(160, 99, 0)});
  const ResolvedRequest resolved = plan_for(request, options);
  EXPECT_EQ(resolved.height, 96);
  EXPECT_EQ(options.pipeline.planned.width, 64);
  EXPECT_EQ(options.pipeline.planned.height, 96);
  EXPECT_THAT(options.pipeline.planned.references, ElementsAre(ImageSize{160, 99}));
}

TEST(Flux2MemoryPlan, MakesRoomForReferences) {
  const auto planned = [](RequestExtent extent) {
    LoadOptions options{.model_path = micro_folder() / "klein", .dtype = DType::kF32};
    options.pipeline.planned = std::move(extent);
    return load_pipeline(options, make_backend("cpu")).pipeline->memory_plan().activation_bytes;
  };
  constexpr ImageSize kSquare = {1024, 1024};
  const std::size_t alone = planned({.width = 1024, .height = 1024});
  const std::size_t one = planned({.width = 1024, .height = 1024, .references = {kSquare}});
  const std::size_t two =
      planned({.width = 1024, .height = 1024, .references = {kSquare, kSquare}});
  EXPECT_GT(one, alone);
  EXPECT_EQ(two - one, one - alone);
  EXPECT_EQ(planned({.width = 1024, .height = 1024, .references = {{4096, 4096}}}), one)
      << "of which no more pixels are kept";
  EXPECT_GT(planned({.width = 1024,
                     .height = 1024,
                     .references = {{4096, 4096}},
                     .reference_limit = ReferenceLimit::kBfl}),
            two);
}

}  // namespace
}  // namespace dither::golden
