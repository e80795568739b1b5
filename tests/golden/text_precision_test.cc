// --text-encoder-precision fp8: what it does to prompts' embeddings and to latents.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "golden/golden.h"
#include "runtime/load.h"

namespace dither::golden {
namespace {

struct Model {
  const char* folder;
  const char* encoder;  ///< the large one
  int layers;           ///< of it that are used
};

void PrintTo(const Model& model, std::ostream* out) { *out << model.folder; }

class TextPrecisionGolden : public testing::TestWithParam<Model> {
 protected:
  struct Drawn {
    Tensor embeds;
    Tensor latents;           ///< after the last step
    double weight_error = 0;  ///< the largest of the encoder's layers
    std::size_t encoder_bytes = 0;
  };

  Drawn draw(DType dtype, bool fp8, const char* prompt) const {
    LoadOptions options{.model_path = source_dir() / GetParam().folder, .dtype = dtype};
    options.pipeline.fp8_text_encoder = fp8;
    const LoadedPipeline loaded = load_pipeline(options, make_backend("cpu"));
    GenerateRequest request;
    request.prompt = prompt;
    request.num_inference_steps = 3;
    request.record_trajectory = true;
    GeneratedOutput output = std::move(loaded.pipeline->generate(request, {}).outputs.at(0));
    const Trajectory& trajectory = output.trajectory.value();
    const auto embeds = std::ranges::find(trajectory.embeddings, "prompt_embeds",
                                          [](const auto& e) { return e.first; });
    Drawn drawn{
        .embeds = embeds->second,
        .latents = trajectory.latents.slice(1, 2, 3),
        .encoder_bytes = loaded.pipeline->memory_plan().of(GetParam().encoder).device_bytes};
    for (const ComponentAttestation& component : loaded.pipeline->attestation()) {
      for (const LayerAttestation& layer : component.layers) {
        if (component.component != GetParam().encoder) continue;
        drawn.weight_error = std::max(drawn.weight_error, layer.executed.weight_error.value_or(0));
      }
    }
    return drawn;
  }
};

// Weights only are rounded, so a product is off by the error of its weights. A layer of any of
// these encoders has seven (queries, keys, values, output, gate, up, down), and errors of different
// weights add as squares. Latents follow the embeddings and the noise, of which only the first are
// off: by no more than those.
TEST_P(TextPrecisionGolden, Fp8IsOffByItsCodes) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const char* prompt : {"a red fox", "A red fox, 3 apples & a café in the snow", ""}) {
      SCOPED_TRACE(fmt::format("{} '{}'", dtype_name(dtype), prompt));
      const Drawn exact = draw(dtype, false, prompt);
      const Drawn fp8 = draw(dtype, true, prompt);
      EXPECT_EQ(exact.weight_error, 0);
      EXPECT_LT(fp8.weight_error, 0x1p-4);
      EXPECT_LT(fp8.encoder_bytes, exact.encoder_bytes);
      const double error = relative_l2(fp8.embeds, exact.embeds);
      EXPECT_GT(error, 0);
      EXPECT_LT(error, fp8.weight_error * std::sqrt(7 * GetParam().layers));
      const double similarity = cosine(fp8.latents, exact.latents);
      EXPECT_GE(similarity, std::sqrt(1 - error * error));
      RecordProperty(fmt::format("{} '{}'", dtype_name(dtype), prompt),
                     fmt::format("embeddings {:.4f}, latents' cosine {:.6f}", error, similarity));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Table, TextPrecisionGolden,
                         testing::Values(Model{"models/emoji-flux", "text_encoder_2", 2},
                                         Model{"tests/golden/flux2/dev", "text_encoder", 30},
                                         Model{"tests/golden/flux2/klein", "text_encoder", 27}));

}  // namespace
}  // namespace dither::golden
