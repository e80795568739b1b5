// --vae-tiling in every family: which pictures it changes, and the memory that is planned.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "golden/golden.h"
#include "runtime/load.h"

namespace dither::golden {
namespace {

struct Model {
  const char* folder;
  int tile;    ///< pixels
  int height;  ///< of less than a tile
  int width;   ///< of more than one
};

void PrintTo(const Model& model, std::ostream* out) { *out << model.folder; }

/// Of all samples, in levels of 255.
double mean_difference(const std::vector<Image>& a, const std::vector<Image>& b) {
  double total = 0;
  double count = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    for (std::size_t j = 0; j < b[i].pixels.size(); ++j) {
      total += std::abs(a.at(i).pixels.at(j) - b[i].pixels[j]);
      ++count;
    }
  }
  return total / count;
}

class VaeTilingGolden : public testing::TestWithParam<Model> {
 protected:
  static LoadedPipeline load(bool tiling, RequestExtent planned = {}) {
    LoadOptions options{.model_path = source_dir() / GetParam().folder, .dtype = DType::kF32};
    options.pipeline.vae_tiling = tiling;
    options.pipeline.planned = planned;
    return load_pipeline(options, make_backend("cpu"));
  }
  static std::vector<Image> draw(bool tiling, int width, std::uint64_t seed = 7) {
    const LoadedPipeline loaded = load(tiling);
    GenerateRequest request;
    request.prompt = "a red fox";
    request.width = width;
    request.height = GetParam().height;
    request.num_inference_steps = 1;
    request.seed = seed;
    return std::move(loaded.pipeline->generate(request, {}).outputs.at(0).frames);
  }
};

// Group norms of a square are not those of the picture, so no pixel need be the same.
TEST_P(VaeTilingGolden, ChangesLargePicturesLessThanTheSeedDoes) {
  const std::vector<Image> whole = draw(false, GetParam().width);
  const std::vector<Image> tiled = draw(true, GetParam().width);
  const double change = mean_difference(tiled, whole);
  EXPECT_GT(change, 0);
  EXPECT_LT(change, mean_difference(draw(false, GetParam().width, /*seed=*/8), whole) / 2);
}

TEST_P(VaeTilingGolden, LeavesAPictureOfOneTile) {
  EXPECT_EQ(draw(false, GetParam().tile), draw(true, GetParam().tile));
}

TEST_P(VaeTilingGolden, NeedsLessMemory) {
  const RequestExtent large = {.width = 4096, .height = 4096, .num_frames = 1};
  const std::size_t whole = load(false, large).pipeline->memory_plan().activation_bytes;
  const std::size_t tiled = load(true, large).pipeline->memory_plan().activation_bytes;
  EXPECT_LT(tiled, whole);
}

INSTANTIATE_TEST_SUITE_P(Table, VaeTilingGolden,
                         testing::Values(Model{"models/emoji-flux", 128, 64, 176},
                                         Model{"tests/golden/flux2/klein", 64, 48, 112},
                                         Model{"tests/golden/wan/pipeline", 256, 32, 320}));

}  // namespace
}  // namespace dither::golden
