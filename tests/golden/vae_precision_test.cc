// --vae-precision in every family: what it changes, and by how much.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "golden/golden.h"
#include "runtime/load.h"

namespace dither::golden {
namespace {

namespace fs = std::filesystem;

struct Model {
  const char* folder;
  bool takes_references;
};

void PrintTo(const Model& model, std::ostream* out) { *out << model.folder; }

/// A picture of gradients, to be referred to.
Image gradients() {
  Image image{.width = 64, .height = 64, .channels = 3, .pixels = {}};
  for (int i = 0; i < image.width * image.height * image.channels; ++i) {
    image.pixels.push_back(static_cast<std::uint8_t>(i * 7 % 256));
  }
  return image;
}

double psnr_db(const std::vector<Image>& a, const std::vector<Image>& b) {
  double squares = 0;
  double count = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    for (std::size_t j = 0; j < b[i].pixels.size(); ++j) {
      const double error = a.at(i).pixels.at(j) - b[i].pixels[j];
      squares += error * error;
      ++count;
    }
  }
  return 20 * std::log10(255 / std::sqrt(squares / count));
}

class VaePrecisionGolden : public testing::TestWithParam<Model> {
 protected:
  struct Drawn {
    std::vector<Image> frames;
    Tensor latents;
    std::size_t vae_bytes = 0;
  };

  Drawn draw(DType dtype, VaePrecision vae) const {
    LoadOptions options{.model_path = source_dir() / GetParam().folder, .dtype = dtype};
    options.pipeline.vae = vae;
    const LoadedPipeline loaded = load_pipeline(options, make_backend("cpu"));
    GenerateRequest request;
    request.prompt = "a red fox";
    request.num_inference_steps = 2;
    request.seed = 7;
    request.record_trajectory = true;
    if (GetParam().takes_references) request.references = {{.path = "", .image = gradients()}};
    GeneratedOutput output = std::move(loaded.pipeline->generate(request, {}).outputs.at(0));
    return {.frames = std::move(output.frames),
            .latents = output.trajectory.value().latents,
            .vae_bytes = loaded.pipeline->memory_plan().of("vae").device_bytes};
  }
};

TEST_P(VaePrecisionGolden, AutoIsTheActivationsDtype) {
  for (const auto& [dtype, same] :
       {std::pair(DType::kF32, VaePrecision::kF32), std::pair(DType::kBF16, VaePrecision::kBF16)}) {
    const Drawn automatic = draw(dtype, VaePrecision::kAuto);
    const Drawn chosen = draw(dtype, same);
    EXPECT_EQ(automatic.frames, chosen.frames);
    EXPECT_EQ(automatic.vae_bytes, chosen.vae_bytes);
  }
}

// A layer in bfloat16 makes at most 4 roundings of 2^-9, which add as squares (wan_vae_test.cc), of
// values in [-1, 1]; none of these decoders has more than 32. Then both pictures round to levels of
// 2 / 255. Reference pictures are encoded by the same autoencoder.
TEST_P(VaePrecisionGolden, TheOtherDtypeChangesPicturesALittleAndNoLatents) {
  const double bound = std::sqrt(32.0 * 4) / 512 + 2.0 / 255;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Drawn f32 = draw(dtype, VaePrecision::kF32);
    const Drawn bf16 = draw(dtype, VaePrecision::kBF16);
    EXPECT_NE(f32.frames, bf16.frames);
    const double psnr = psnr_db(bf16.frames, f32.frames);
    RecordProperty(std::string(dtype_name(dtype)), fmt::format("{:.1f} dB", psnr));
    if (!GetParam().takes_references) {
      EXPECT_EQ(to_floats(f32.latents), to_floats(bf16.latents));
      EXPECT_GE(psnr, 20 * std::log10(2 / bound));
    }
    EXPECT_GT(f32.vae_bytes, 1.5 * static_cast<double>(bf16.vae_bytes));
  }
}

INSTANTIATE_TEST_SUITE_P(Table, VaePrecisionGolden,
                         testing::Values(Model{"models/emoji-flux", false},
                                         Model{"tests/golden/flux2/dev", true},
                                         Model{"tests/golden/flux2/klein", false},
                                         Model{"tests/golden/wan/pipeline", false}));

}  // namespace
}  // namespace dither::golden
