// klein with references that are computed once, against diffusers' Flux2KleinKVPipeline:
// make_micro_flux2_kv.py.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/test_util.h"
#include "golden/golden.h"
#include "golden/images.h"
#include "runtime/load.h"

namespace dither::golden {
namespace {

namespace fs = std::filesystem;
constexpr double kTolerance = 2e-5;  // relative L2
constexpr std::int64_t kSteps = 3;
constexpr std::string_view kClass = "Flux2KleinKVPipeline";

fs::path micro_folder() { return source_dir() / "tests/golden/flux2"; }

/// The tiny klein as a folder of this class.
class Folder {
 public:
  explicit Folder(std::string_view pipeline_class) {
    fs::copy(micro_folder() / "klein", folder_.path(), fs::copy_options::recursive);
    const fs::path index = folder_.path() / "model_index.json";
    auto json = nlohmann::json::parse(std::ifstream(index));
    json["_class_name"] = pipeline_class;
    if (pipeline_class == kClass) json.erase("is_distilled");  // it is, unless it says otherwise
    std::ofstream(index) << json;
  }
  LoadedPipeline load(std::string_view backend, DType dtype, RequestExtent planned = {}) const {
    LoadOptions options{.model_path = folder_.path(), .dtype = dtype};
    options.pipeline.planned = std::move(planned);
    return load_pipeline(options, make_backend(backend));
  }

 private:
  TempFolder folder_;
};

class Flux2KleinKv : public testing::TestWithParam<std::string> {
 protected:
  static Tensor golden(const std::string& name) {
    return SafetensorsFile::open(micro_folder() / "klein_kv.safetensors")->read(name);
  }
  static GenerateRequest request(int references) {
    GenerateRequest request;
    request.prompt = "A red fox, 3 apples & a café in the snow";
    request.width = 64;
    request.height = 48;
    request.num_inference_steps = kSteps;
    request.max_sequence_length = 256;
    request.seed = 7;
    request.record_trajectory = true;
    const auto micro = SafetensorsFile::open(micro_folder() / "micro.safetensors");
    for (int i = 0; i < references; ++i) {
      request.references.push_back(
          {.path = "", .image = image_of(micro->read(fmt::format("edit.reference{}", i)))});
    }
    return request;
  }
  static Tensor step_of(const Tensor& latents, int dim, std::int64_t step) {
    return latents.slice(dim, step, step + 1).reshape({1, 12, 16});
  }
  const Folder folder_{kClass};
};

TEST_P(Flux2KleinKv, FloatTrajectoryFollowsDiffusers) {
  const LoadedPipeline loaded = folder_.load(GetParam(), DType::kF32);
  for (const auto& [name, references] :
       std::vector<std::pair<std::string, int>>{{"one", 1}, {"two", 2}, {"one", 1}}) {
    SCOPED_TRACE(name);
    const auto drawn = loaded.pipeline->generate(request(references), {});
    const Tensor& latents = drawn.outputs.at(0).trajectory.value().latents;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      EXPECT_LE(relative_l2(step_of(latents, 1, step), step_of(golden(name + ".latents"), 0, step)),
                kTolerance)
          << "after step " << step;
    }
    expect_image(drawn.outputs.at(0).image(), image_of(golden(name + ".picture")));
  }
}

TEST_P(Flux2KleinKv, BFloat16StaysClose) {
  const auto drawn = folder_.load(GetParam(), DType::kBF16).pipeline->generate(request(2), {});
  const Tensor& latents = drawn.outputs.at(0).trajectory.value().latents;
  EXPECT_GE(cosine(step_of(latents, 1, 0), step_of(golden("two.latents"), 0, 0)), 0.999);
}

TEST_P(Flux2KleinKv, WithoutReferencesIsKlein) {
  const auto picture = [&](const Folder& folder) {
    return folder.load(GetParam(), DType::kBF16).pipeline->generate(request(0), {}).outputs.at(0);
  };
  EXPECT_EQ(picture(folder_).image(), picture(Folder("Flux2KleinPipeline")).image());
}

TEST_P(Flux2KleinKv, PlanMakesRoomForWhatIsKept) {
  const auto planned = [&](std::vector<ImageSize> references) {
    const RequestExtent extent = {
        .width = 1024, .height = 1024, .references = std::move(references)};
    return folder_.load(GetParam(), DType::kF32, extent).pipeline->memory_plan().activation_bytes;
  };
  // 4 blocks of 32 channels: keys and values twice, and once joined to the picture's.
  constexpr std::size_t kKept = (4 * 2 * 2 + 2) * (1024 / 16 * 1024 / 16) * 32 * sizeof(float);
  EXPECT_EQ(planned({{1024, 1024}}) - planned({}), kKept);
}

INSTANTIATE_TEST_SUITE_P(Backends, Flux2KleinKv, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace dither::golden
