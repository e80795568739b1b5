// Tiny Wan pipelines that begin with a picture, stage by stage and as a whole, against diffusers:
// make_micro_wan_i2v.py says what is what.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/test_util.h"
#include "golden/golden.h"
#include "golden/images.h"
#include "golden/micro_wan_vae.h"
#include "io/safetensors_writer.h"
#include "pipelines/wan/wan_components.h"
#include "runtime/load.h"

namespace dither::golden {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr double kTolerance = 1e-4;  // relative L2
constexpr std::int64_t kSteps = 6;

fs::path wan() { return source_dir() / "tests/golden/wan"; }

std::unique_ptr<SafetensorsFile> reference() {
  return SafetensorsFile::open(wan() / "i2v.safetensors");
}

Image picture_of(std::string_view name) {
  return image_of(reference()->read(fmt::format("{}.picture", name)));
}

void change_json(const fs::path& file, const Json& changes) {
  Json json = Json::parse(read_text_file(file, 1 << 20));
  json.update(changes);
  write_file(file, json.dump());
}

/// Replaces the weights of `component` that the reference file has for it.
void change_weights(const fs::path& folder, const std::string& name, const std::string& component) {
  const fs::path file = folder / component / "diffusion_pytorch_model.safetensors";
  const auto stored = SafetensorsFile::open(file);
  const auto changed = reference();
  std::map<std::string, Tensor> tensors;
  for (const TensorInfo& info : stored->tensors()) {
    const std::string other = fmt::format("{}.{}.{}", name, component, info.name);
    tensors[info.name] =
        changed->find(other) != nullptr ? changed->read(other) : stored->read(info.name);
  }
  write_safetensors(file, tensors);
}

/// Both experts of wan/pipeline with the channels of a mask and of a picture's latents.
void make_i2v(const fs::path& folder) {
  fs::copy(wan() / "pipeline", folder, fs::copy_options::recursive);
  for (const char* expert : {"transformer", "transformer_2"}) {
    change_json(folder / expert / "config.json", {{"in_channels", 12}});
    change_weights(folder, "i2v", expert);
  }
  const Json absent = {nullptr, nullptr};
  change_json(folder / "model_index.json", {{"_class_name", "WanImageToVideoPipeline"},
                                            {"boundary_ratio", 0.9},
                                            {"image_encoder", absent},
                                            {"image_processor", absent}});
}

Json vae_config(const models::WanVaeConfig& config) {
  return {{"_class_name", "AutoencoderKLWan"},
          {"base_dim", config.base_dim},
          {"decoder_base_dim", config.decoder_base_dim.value()},
          {"z_dim", config.z_dim},
          {"dim_mult", config.dim_mult},
          {"num_res_blocks", config.num_res_blocks},
          {"latents_mean", config.latents_mean},
          {"latents_std", config.latents_std},
          {"is_residual", config.is_residual},
          {"in_channels", config.in_channels},
          {"out_channels", config.out_channels},
          {"patch_size", config.patch_size},
          {"scale_factor_spatial", config.scale_factor_spatial}};
}

/// The first expert alone, with the channels of Wan2.2's autoencoder.
void make_ti2v(const fs::path& folder) {
  fs::copy(wan() / "pipeline", folder, fs::copy_options::recursive);
  change_json(folder / "transformer/config.json", {{"in_channels", 6}, {"out_channels", 6}});
  change_weights(folder, "ti2v", "transformer");
  write_file(folder / "vae/config.json", vae_config(micro_wan_vae("wan22")).dump());
  const auto stored = SafetensorsFile::open(wan() / "vae.safetensors");
  const PrefixedSource vae(*stored, "wan22.vae.");
  std::map<std::string, Tensor> tensors;
  for (const TensorInfo& info : vae.tensors()) tensors[info.name] = vae.read(info.name);
  write_safetensors(folder / "vae/diffusion_pytorch_model.safetensors", tensors);
  // As it is published: the class is the one for text.
  change_json(folder / "model_index.json", {{"expand_timesteps", true},
                                            {"boundary_ratio", nullptr},
                                            {"transformer_2", {nullptr, nullptr}}});
}

/// One of the script's cases.
struct Case {
  const char* name;
  void (*make)(const fs::path& folder);
  int width, height;
  double guidance_scale;
  std::optional<double> guidance_scale_2;
  const char* negative_prompt;
  std::uint64_t seed;

  models::VideoGrid grid(std::int64_t pixels) const {
    return {.frames = 3, .height = height / pixels, .width = width / pixels};
  }
  GenerateRequest request() const {
    GenerateRequest request{.prompt = "A red fox  runs &amp; jumps over the snow",
                            .negative_prompt = negative_prompt};
    request.width = width;
    request.height = height;
    request.guidance_scale = guidance_scale;
    request.guidance_scale_2 = guidance_scale_2;
    request.flow_shift = 5;
    request.seed = seed;
    request.references = {{.path = "picture.png", .image = picture_of(name)}};
    request.record_trajectory = true;
    return request;
  }
};

const Case kI2v = {"i2v", make_i2v, 48, 32, 3.5, 3, "blurry, static", 7};
const Case kTi2v = {"ti2v", make_ti2v, 64, 32, 5, {}, "", 3};

class WanPictures : public testing::TestWithParam<std::string> {
 protected:
  Tensor golden(const Case& test, const char* what) const {
    return reference()->read(fmt::format("{}.{}", test.name, what));
  }

  void expect_condition(const Case& test, std::int64_t token_pixels) const {
    test.make(folder());
    const auto backend = make_backend(GetParam());
    const WanComponents components =
        load_wan_components(ModelFolder::open(folder()), *backend, DType::kF32);
    const Tensor condition =
        (*components.picture_encoder)(picture_of(test.name), test.grid(token_pixels));
    const double error = relative_l2(condition, golden(test, "condition"));
    EXPECT_LE(error, kTolerance);
    RecordProperty("condition", fmt::format("{:.1e}", error));
  }

  void expect_as_diffusers(const Case& test) const {
    test.make(folder());
    const LoadedPipeline loaded =
        load_pipeline({.model_path = folder(), .dtype = DType::kF32}, make_backend(GetParam()));
    const GeneratedOutput drawn = loaded.pipeline->generate(test.request(), {}).outputs.at(0);
    const Tensor latents = golden(test, "latents");
    ASSERT_EQ(drawn.trajectory->latents.shape(), latents.shape());
    for (std::int64_t step = 0; step < kSteps; ++step) {
      const double error = relative_l2(drawn.trajectory->latents.slice(1, step, step + 1),
                                       latents.slice(1, step, step + 1));
      EXPECT_LE(error, kTolerance) << "step " << step;
      RecordProperty(fmt::format("step_{}", step), fmt::format("{:.1e}", error));
    }
    expect_frames(drawn.frames, golden(test, "frames"));
  }

  fs::path folder() const { return temporary_.path() / "model"; }

 private:
  TempFolder temporary_;
};

TEST_P(WanPictures, AreEncodedWithTheGrayFramesBehindThem) { expect_condition(kI2v, 16); }

TEST_P(WanPictures, AreEncodedAlone) { expect_condition(kTi2v, 32); }

TEST_P(WanPictures, StandBesideTheLatentsOfBothExperts) { expect_as_diffusers(kI2v); }

TEST_P(WanPictures, StandInPlaceOfTheFirstFrame) { expect_as_diffusers(kTi2v); }

/// With and without a picture the same tensors have other shapes.
TEST_P(WanPictures, ComeAndGo) {
  make_ti2v(folder());
  const auto load = [&] {
    return load_pipeline({.model_path = folder(), .dtype = DType::kF32}, make_backend(GetParam()));
  };
  const auto frames = [](const LoadedPipeline& loaded, const GenerateRequest& request) {
    return loaded.pipeline->generate(request, {}).outputs.at(0).frames;
  };
  const GenerateRequest with = kTi2v.request();
  GenerateRequest without = with;
  without.references.clear();
  const LoadedPipeline both = load();
  const std::vector<Image> first = frames(both, with);
  const std::vector<Image> second = frames(both, without);
  EXPECT_NE(first, second);
  EXPECT_EQ(frames(load(), without), second);
  EXPECT_EQ(frames(both, with), first);
}

/// Decoded in squares, a large video takes less than its picture at once.
TEST(WanPicturesPlan, MakesRoomForTheEncoder) {
  const TempFolder temporary;
  const fs::path text = wan() / "pipeline";
  const fs::path i2v = temporary.path() / "i2v";
  const fs::path ti2v = temporary.path() / "ti2v";
  make_i2v(i2v);
  make_ti2v(ti2v);
  const auto planned = [&](const fs::path& path, const std::vector<ImageSize>& pictures) {
    PipelineOptions options{.vae_tiling = true};
    options.planned = {.width = 2048, .height = 2048, .num_frames = 5, .references = pictures};
    const auto backend = make_backend("cpu");
    return load_wan_components(ModelFolder::open(path), *backend, DType::kF32, options)
        .memory_plan.activation_bytes;
  };
  EXPECT_GT(planned(i2v, {}), planned(text, {}));
  EXPECT_GT(planned(ti2v, {{64, 32}}), planned(ti2v, {}));
}

INSTANTIATE_TEST_SUITE_P(Backends, WanPictures, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace dither::golden
