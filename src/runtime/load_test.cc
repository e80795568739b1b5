#include "runtime/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "backends/cuda/cuda_backend.h"
#include "base/atomic_file.h"
#include "base/test_util.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

const fs::path kModel = fs::path(DITHER_SOURCE_DIR) / "models/emoji-flux";

constexpr const char* kTokenizer = "tokenizer/tokenizer.json";

/// A copy of the demo model that a test may spoil.
class SpoiledModel : public ::testing::Test {
 protected:
  SpoiledModel() {
    fs::copy(kModel, model(), fs::copy_options::recursive);
    // Tests replace files; the sources may be read-only.
    for (const auto& entry : fs::recursive_directory_iterator(model())) {
      fs::permissions(entry, fs::perms::owner_write, fs::perm_options::add);
    }
  }

  fs::path model() const { return folder_.path() / "model"; }

  void edit(const std::string& file, const std::string& key, const nlohmann::json& value) const {
    auto json = nlohmann::json::parse(read_text_file(model() / file, 1 << 20));
    json[key] = value;
    write_file(model() / file, json.dump());
  }

  Error load_error(LoadOptions options = {}) const {
    options.model_path = model();
    return error_of([&] { load_pipeline(options); });
  }

 private:
  TempFolder folder_;
};

TEST_F(SpoiledModel, UnknownPipelineClassNamesTheKnownOnes) {
  edit("model_index.json", "_class_name", "SanaPipeline");
  const Error error = load_error();
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("model_index.json"), HasSubstr("'SanaPipeline'"),
                                  HasSubstr("FluxPipeline")));
}

TEST_F(SpoiledModel, MissingComponentIsNamed) {
  fs::remove_all(model() / "vae");
  const Error error = load_error();
  EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  EXPECT_THAT(error.what(), HasSubstr("vae"));
}

TEST_F(SpoiledModel, MissingWeightsAreNamed) {
  fs::remove(model() / "text_encoder/model.safetensors");
  const Error error = load_error();
  EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("text_encoder"), HasSubstr("model.safetensors")));
}

TEST_F(SpoiledModel, TruncatedWeightsAreNamed) {
  fs::resize_file(model() / "transformer/diffusion_pytorch_model.safetensors", 1'000'000);
  const Error error = load_error();
  EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
  EXPECT_THAT(error.what(), HasSubstr("transformer/diffusion_pytorch_model.safetensors"));
}

TEST_F(SpoiledModel, AllHeadersAreCheckedBeforeAnyWeight) {
  edit("transformer/config.json", "num_layers", 3);
  edit("vae/config.json", "layers_per_block", 2);
  const Error error = load_error();
  EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("transformer_blocks.2.attn.to_q.weight"),
                                  HasSubstr("decoder.up_blocks.0.resnets.2.conv1.weight")));
}

TEST_F(SpoiledModel, TokenizerMustFitItsEncoder) {
  auto json = nlohmann::json::parse(read_text_file(model() / kTokenizer, 1 << 20));
  json["model"]["vocab"]["apple</w>"] = 4000;  // the embedding has 2048 rows
  write_file(model() / kTokenizer, json.dump());
  EXPECT_THAT(load_error().what(), AllOf(HasSubstr("tokenizer: ids up to 4000"),
                                         HasSubstr("text_encoder has 2048 rows")));
}

TEST_F(SpoiledModel, ReplacedComponentIsRead) {
  const TempFolder elsewhere;
  fs::rename(model() / "vae", elsewhere.path() / "vae");
  EXPECT_NO_THROW(load_pipeline(
      {.model_path = model(), .component_paths = {{"vae", elsewhere.path() / "vae"}}}));
}

TEST(LoadPipeline, ChoosesTheCheckpointsDtype) {
  EXPECT_EQ(load_pipeline({.model_path = kModel}).pipeline->dtype(), DType::kBF16);
  EXPECT_EQ(load_pipeline({.model_path = kModel, .dtype = DType::kF32}).pipeline->dtype(),
            DType::kF32);
  const Error error = error_of([] { load_pipeline({.model_path = kModel, .dtype = DType::kF16}); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
}

TEST(LoadPipeline, FingerprintTellsModelsApart) {
  const auto first = load_pipeline({.model_path = kModel});
  const auto again = load_pipeline({.model_path = kModel, .dtype = DType::kF32});
  EXPECT_EQ(first.pipeline->fingerprint().size(), 16U);
  EXPECT_EQ(first.pipeline->fingerprint(), again.pipeline->fingerprint());
}

TEST_F(SpoiledModel, FingerprintChangesWithAConfig) {
  const std::string before(load_pipeline({.model_path = kModel}).pipeline->fingerprint());
  edit("scheduler/scheduler_config.json", "max_shift", 1.2);
  EXPECT_NE(load_pipeline({.model_path = model()}).pipeline->fingerprint(), before);
}

TEST(MakeBackend, CudaMustBeBuiltIn) {
  if (cuda_available()) GTEST_SKIP() << "this build has CUDA";
  const Error error = error_of([] { make_backend({.device = DeviceChoice::kCuda}); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(error.what(), HasSubstr("without CUDA"));
  EXPECT_EQ(make_backend({.device = DeviceChoice::kAuto})->name(), "cpu");
}

}  // namespace
}  // namespace dither
