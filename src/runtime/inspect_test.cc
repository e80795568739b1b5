#include "runtime/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_util.h"
#include "io/safetensors_writer.h"

namespace dither {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

const std::filesystem::path kModel = std::filesystem::path(DITHER_SOURCE_DIR) / "models/emoji-flux";

TEST(Inspect, PipelineFolder) {
  const CheckpointSummary summary = inspect_checkpoint(kModel);
  EXPECT_EQ(summary.kind, CheckpointKind::kPipeline);
  EXPECT_EQ(summary.class_name, "FluxPipeline");
  EXPECT_EQ(summary.defaults.width, 128);
  ASSERT_EQ(summary.components.size(), 7U);
  const ComponentSummary& transformer = summary.components[5];
  EXPECT_EQ(transformer.name, "transformer");
  EXPECT_EQ(transformer.class_name, "FluxTransformer2DModel");
  EXPECT_THAT(transformer.config, Contains(Pair("axes_dims_rope", "[8,28,28]")));
  ASSERT_EQ(transformer.dtypes.size(), 1U);
  EXPECT_EQ(transformer.dtypes[0].dtype, DType::kBF16);
  EXPECT_EQ(transformer.dtypes[0].tensors, static_cast<std::int64_t>(transformer.tensors.size()));
  EXPECT_EQ(transformer.bytes, 2 * static_cast<std::uint64_t>(transformer.parameters));
  EXPECT_NEAR(static_cast<double>(transformer.parameters), 9.25e6, 0.01e6);  // the model's card
  EXPECT_THAT(summary.components[1].tensors.size(), ::testing::Gt(0U));
  EXPECT_GT(summary.parameters, transformer.parameters);
}

TEST(Inspect, ComponentFolder) {
  const CheckpointSummary summary = inspect_checkpoint(kModel / "vae");
  EXPECT_EQ(summary.kind, CheckpointKind::kComponent);
  ASSERT_EQ(summary.components.size(), 1U);
  EXPECT_EQ(summary.components[0].name, "vae");
  EXPECT_EQ(summary.components[0].class_name, "AutoencoderKL");
}

TEST(Inspect, SafetensorsFile) {
  const TempFolder folder;
  const auto path = folder.path() / "x.safetensors";
  write_safetensors(path,
                    {{"a", Tensor::host({2, 3}, DType::kF32)},
                     {"b", Tensor::host({}, DType::kF32)},
                     {"c", Tensor::host({100}, DType::kBF16)}},
                    {{"format", "pt"}});
  const CheckpointSummary summary = inspect_checkpoint(path);
  EXPECT_EQ(summary.kind, CheckpointKind::kFile);
  EXPECT_EQ(summary.parameters, 107);
  EXPECT_EQ(summary.bytes, 228U);
  const ComponentSummary& file = summary.components.at(0);
  EXPECT_EQ(file.name, "x.safetensors");
  EXPECT_THAT(file.metadata, Contains(Pair("format", "pt")));
  ASSERT_EQ(file.dtypes.size(), 2U);
  EXPECT_EQ(file.dtypes[0].dtype, DType::kBF16);  // most bytes first
  EXPECT_EQ(file.dtypes[1].tensors, 2);
  EXPECT_THAT(file.config, IsEmpty());
}

TEST(Inspect, NothingToDescribe) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { inspect_checkpoint(folder.path() / "none"); }).what(),
              HasSubstr("no such file"));
  const Error empty = error_of([&] { inspect_checkpoint(folder.path()); });
  EXPECT_EQ(empty.code(), ErrorCode::kNotFound);
  EXPECT_THAT(empty.what(), HasSubstr("model_index.json"));
  const auto text = folder.write("notes.txt", "hello");
  EXPECT_EQ(error_of([&] { inspect_checkpoint(text); }).code(), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace dither
