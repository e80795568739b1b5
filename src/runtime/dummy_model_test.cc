// Models without weights: load format dummy, on configs as small as the demo model's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/test_util.h"
#include "pipelines/attestation.h"
#include "runtime/load.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::TestParamInfo;
using ::testing::Values;

const fs::path kDemo = fs::path(DITHER_SOURCE_DIR) / "models/emoji-flux";

/// The demo model's configs and nothing else.
class DummyModel : public ::testing::Test {
 protected:
  DummyModel() {
    for (const auto& entry : fs::recursive_directory_iterator(kDemo)) {
      const fs::path name = fs::relative(entry, kDemo);
      const std::string file = name.filename().string();
      if (!file.ends_with("config.json") && !file.ends_with("index.json") &&
          file != "dither.json") {
        continue;
      }
      if (name.string().starts_with("tokenizer")) continue;
      fs::create_directories((folder_.path() / name).parent_path());
      fs::copy(entry, folder_.path() / name);
    }
  }

  LoadedPipeline load(DummyQuantization quantization = DummyQuantization::kNone,
                      std::optional<DType> dtype = {}) const {
    return load_pipeline(
        {.model_path = folder_.path(),
         .dtype = dtype,
         .pipeline = {.format = LoadFormat::kDummy, .dummy_quantization = quantization}});
  }

  const fs::path& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
};

const GenerateRequest kRequest = {.prompt = "owl", .num_inference_steps = 2, .seed = 11};

Image draw(const LoadedPipeline& loaded) {
  return loaded.pipeline->generate(kRequest, {}).outputs.at(0).image();
}

TEST_F(DummyModel, NeedsTheLoadFormat) {
  EXPECT_EQ(error_of([&] { load_pipeline({.model_path = path()}); }).code(), ErrorCode::kNotFound);
}

TEST_F(DummyModel, StillNeedsItsConfigs) {
  fs::remove_all(path() / "vae");
  EXPECT_THAT(error_of([&] { load(); }).what(), HasSubstr("vae"));
}

struct DrawCase {
  const char* name;
  DummyQuantization quantization;
  std::optional<DType> dtype;
};

class DummyDraws : public DummyModel, public ::testing::WithParamInterface<DrawCase> {};

/// Finite numbers all the way, and the same ones every time.
TEST_P(DummyDraws, TheSamePictureTwice) {
  const auto first = load(GetParam().quantization, GetParam().dtype);
  const auto second = load(GetParam().quantization, GetParam().dtype);
  EXPECT_EQ(first.pipeline->dtype(), GetParam().dtype.value_or(DType::kBF16));
  EXPECT_EQ(first.pipeline->fingerprint(), second.pipeline->fingerprint());

  GenerateRequest request = kRequest;
  request.record_trajectory = true;
  const auto drawn = first.pipeline->generate(request, {}).outputs.at(0);
  const Tensor& latents = drawn.trajectory->latents;
  for (std::int64_t i = 0; i < latents.elements(); ++i) {
    ASSERT_LT(std::abs(latents.data<float>()[i]), 100.0F) << "latent " << i;
  }
  EXPECT_EQ(drawn.image(), draw(second));
}

INSTANTIATE_TEST_SUITE_P(Table, DummyDraws,
                         Values(DrawCase{"bf16", DummyQuantization::kNone, {}},
                                DrawCase{"f32", DummyQuantization::kNone, DType::kF32},
                                DrawCase{"fp8_profile", DummyQuantization::kFp8Profile, {}},
                                DrawCase{"fp8_full", DummyQuantization::kFp8Full, {}}),
                         [](const TestParamInfo<DrawCase>& test) { return test.param.name; });

TEST_F(DummyModel, AttestsWhatItIs) {
  const auto loaded = load(DummyQuantization::kFp8Profile);
  const auto attestation = loaded.pipeline->attestation();
  const std::vector<ComponentAttestation> components(attestation.begin(), attestation.end());
  EXPECT_THAT(components,
              Each(Field(&ComponentAttestation::declared_by, StartsWith("dummy weights, seed 0"))));
  EXPECT_THAT(components,
              Contains(AllOf(Field(&ComponentAttestation::component, "transformer"),
                             Field(&ComponentAttestation::declared_by, HasSubstr("fp8-profile")))));
  for (const ComponentAttestation& component : components) {
    if (component.component != "transformer") continue;
    EXPECT_THAT(summarize(component), AllOf(HasSubstr("FP8"), HasSubstr("by profile flux1")));
  }
}

TEST_F(DummyModel, QuantizationShowsInTheFingerprint) {
  EXPECT_NE(load(DummyQuantization::kNone).pipeline->fingerprint(),
            load(DummyQuantization::kFp8Full).pipeline->fingerprint());
}

/// Weights that lie in the folder are passed over; its tokenizers are not.
TEST_F(DummyModel, TakesTokenizersThatAreThere) {
  const auto with_tokenizers =
      load_pipeline({.model_path = kDemo, .pipeline = {.format = LoadFormat::kDummy}});
  EXPECT_NE(with_tokenizers.pipeline->fingerprint(), load().pipeline->fingerprint());
  EXPECT_NE(draw(with_tokenizers), draw(load()));
}

}  // namespace
}  // namespace dither
