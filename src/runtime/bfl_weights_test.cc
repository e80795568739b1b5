// The demo transformer as one file under Black Forest Labs' names, in place of its own weights.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/test_util.h"
#include "io/bfl_flux1_test_util.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "runtime/load.h"

namespace dither {
namespace {

const std::filesystem::path kModel = std::filesystem::path(DITHER_SOURCE_DIR) / "models/emoji-flux";

Image draw(const LoadOptions& options) {
  const LoadedPipeline loaded = load_pipeline(options);
  const GenerateRequest request = {.prompt = "owl", .num_inference_steps = 1, .seed = 11};
  return loaded.pipeline->generate(request, {}).images.at(0).image;
}

TEST(BflWeights, DrawTheSamePixels) {
  const TempFolder folder;
  const auto diffusers =
      SafetensorsFile::open(kModel / "transformer/diffusion_pytorch_model.safetensors");
  const auto file = folder.path() / "flux1.safetensors";
  write_safetensors(file, to_bfl_flux1(read_all(*diffusers), "model.diffusion_model."));
  LoadOptions options{.model_path = kModel};
  options.weights.transformer.weights = file;
  EXPECT_EQ(draw(options), draw({.model_path = kModel}));
}

}  // namespace
}  // namespace dither
