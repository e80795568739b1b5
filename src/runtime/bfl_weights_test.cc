// Transformers as one file under Black Forest Labs' names, in place of its own weights.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/test_util.h"
#include "io/bfl_names_test_util.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "runtime/load.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
const fs::path kSource = DITHER_SOURCE_DIR;

Image draw(const LoadOptions& options) {
  const LoadedPipeline loaded = load_pipeline(options);
  const GenerateRequest request = {.prompt = "owl", .num_inference_steps = 1, .seed = 11};
  return loaded.pipeline->generate(request, {}).outputs.at(0).image();
}

struct ModelCase {
  const char* folder;
  NamedTensors (*to_bfl)(const NamedTensors& diffusers, const std::string& prefix);
};

TEST(BflWeights, DrawTheSamePixels) {
  for (const auto& [name, to_bfl] : {ModelCase{"models/emoji-flux", to_bfl_flux1},
                                     ModelCase{"tests/golden/flux2/dev", to_bfl_flux2}}) {
    SCOPED_TRACE(name);
    const fs::path model = kSource / name;
    const TempFolder folder;
    const auto diffusers =
        SafetensorsFile::open(model / "transformer/diffusion_pytorch_model.safetensors");
    const auto file = folder.path() / "flux.safetensors";
    write_safetensors(file, to_bfl(read_all(*diffusers), "model.diffusion_model."));
    LoadOptions options{.model_path = model};
    options.pipeline.transformer.weights = file;
    EXPECT_EQ(draw(options), draw({.model_path = model}));
  }
}

}  // namespace
}  // namespace dither
