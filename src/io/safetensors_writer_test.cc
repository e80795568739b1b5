#include "io/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "base/atomic_file.h"
#include "base/test_util.h"
#include "io/safetensors.h"
#include "io/test_files.h"

namespace dither {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::TestWithParam;
using ::testing::Values;

std::string content(const std::filesystem::path& path) {
  return read_text_file(path, std::size_t{1} << 30);
}

Tensor counting(const Shape& shape, DType dtype) {
  Tensor tensor = Tensor::host(shape, dtype);
  for (std::size_t i = 0; i < tensor.bytes(); ++i) tensor.raw()[i] = static_cast<std::byte>(i + 1);
  return tensor;
}

std::vector<std::string> files_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

// safetensors.numpy.save_file 0.8.0 wrote the same bytes for these tensors.
TEST(SafetensorsWriter, LaysTheFileOutLikeTheLibrary) {
  const TempFolder folder;
  const auto path = folder.path() / "x.safetensors";
  write_safetensors(path,
                    {{"a", counting({3}, DType::kU8)},
                     {"c", counting({1, 2}, DType::kF32)},
                     {"b", counting({}, DType::kF32)},
                     {"d", counting({0}, DType::kI64)}},
                    {{"format", "pt"}});
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"d":{"dtype":"I64","shape":[0],"data_offsets":[0,0]},)"
      R"("b":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("c":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]},)"
      R"("a":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}})";
  EXPECT_EQ(content(path), safetensors_bytes(header + std::string(8 - header.size() % 8, ' '),
                                             "\1\2\3\4\1\2\3\4\5\6\7\10\1\2\3"));
  EXPECT_THAT(files_in(folder.path()), ElementsAre("x.safetensors"));
}

TEST(SafetensorsWriter, RewritesEveryFileOfTheDemoModelByteForByte) {
  const TempFolder folder;
  const auto model = std::filesystem::path(DITHER_SOURCE_DIR) / "models/emoji-flux";
  for (const char* name : {"text_encoder/model.safetensors", "text_encoder_2/model.safetensors",
                           "transformer/diffusion_pytorch_model.safetensors",
                           "vae/diffusion_pytorch_model.safetensors"}) {
    const auto source = SafetensorsFile::open(model / name);
    std::map<std::string, Tensor> tensors;
    for (const TensorInfo& info : source->tensors())
      tensors.emplace(info.name, source->read(info.name));
    write_safetensors(folder.path() / "copy.safetensors", tensors, source->metadata());
    EXPECT_EQ(content(folder.path() / "copy.safetensors"), content(model / name)) << name;
  }
}

TEST(SafetensorsWriter, EveryDtypeSurvives) {
  const TempFolder folder;
  std::map<std::string, Tensor> tensors;
  for (const char* name :
       {"BOOL", "U8",  "I8",  "U16", "I16",     "U32",     "I32",     "U64",     "I64",     "F16",
        "BF16", "F32", "F64", "C64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"}) {
    tensors.emplace(std::string(name) + " \"é\"\n", counting({3, 4}, parse_dtype(name).value()));
  }
  const auto path = folder.path() / "x.safetensors";
  write_safetensors(path, tensors);
  const auto file = SafetensorsFile::open(path);
  for (const auto& [name, written] : tensors) {
    const Tensor read = file->read(name);
    ASSERT_EQ(to_string(read), to_string(written)) << name;
    EXPECT_EQ(std::memcmp(read.raw(), written.raw(), written.bytes()), 0) << name;
  }
}

TEST(SafetensorsWriter, LeavesNothingWhenItIsNotFinished) {
  const TempFolder folder;
  const auto path = folder.write("x.safetensors", "old");
  const Tensor tensor = counting({2}, DType::kU8);
  {
    SafetensorsWriter writer(path, {{"a", DType::kU8, {2}}, {"b", DType::kU8, {2}}});
    writer.write("a", tensor);
    EXPECT_THAT(error_of([&] { writer.finish(); }).what(),
                HasSubstr("tensor 'b' was declared but not written"));
  }
  EXPECT_EQ(content(path), "old");
  EXPECT_THAT(files_in(folder.path()), ElementsAre("x.safetensors"));
}

struct BadWrite {
  const char* name;
  std::function<void(SafetensorsWriter&)> action;
  const char* message;
};
class SafetensorsWriterRefuses : public TestWithParam<BadWrite> {};

TEST_P(SafetensorsWriterRefuses, Tensor) {
  const TempFolder folder;
  SafetensorsWriter writer(folder.path() / "x.safetensors",
                           {{"a", DType::kU8, {2, 2}}, {"b", DType::kU8, {2, 2}}});
  const Error error = error_of([&] { GetParam().action(writer); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
}
INSTANTIATE_TEST_SUITE_P(
    Table, SafetensorsWriterRefuses,
    Values(BadWrite{"WrongOrder", [](auto& w) { w.write("b", counting({2, 2}, DType::kU8)); },
                    "tensor 'b' written where 'a' is due"},
           BadWrite{"WrongShape", [](auto& w) { w.write("a", counting({4}, DType::kU8)); },
                    "tensor 'a' is U8 [4], declared as U8 [2, 2]"},
           BadWrite{"WrongDtype", [](auto& w) { w.write("a", counting({2, 2}, DType::kI8)); },
                    "tensor 'a' is I8 [2, 2], declared as U8 [2, 2]"},
           BadWrite{"Strided",
                    [](auto& w) { w.write("a", counting({2, 3}, DType::kU8).slice(1, 0, 2)); },
                    "tensor 'a' is not contiguous host memory"},
           BadWrite{"PastTheEnd",
                    [](auto& w) {
                      w.write("a", counting({2, 2}, DType::kU8));
                      w.write("b", counting({2, 2}, DType::kU8));
                      w.write("c", counting({2, 2}, DType::kU8));
                    },
                    "tensor 'c' written where the end is due"}),
    [](const auto& row) { return std::string(row.param.name); });

struct BadDeclaration {
  const char* name;
  std::vector<TensorSpec> tensors;
  std::map<std::string, std::string> metadata;
  const char* message;
};
class SafetensorsWriterRefusesDeclaration : public TestWithParam<BadDeclaration> {};

TEST_P(SafetensorsWriterRefusesDeclaration, AndLeavesNoFile) {
  const TempFolder folder;
  const Error error = error_of(
      [&] { SafetensorsWriter(folder.path() / "x", GetParam().tensors, GetParam().metadata); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
  EXPECT_THAT(files_in(folder.path()), IsEmpty());
}
INSTANTIATE_TEST_SUITE_P(
    Table, SafetensorsWriterRefusesDeclaration,
    Values(BadDeclaration{"Twice",
                          {{"a", DType::kU8, {}}, {"a", DType::kF32, {}}},
                          {},
                          "tensor 'a' is declared twice"},
           BadDeclaration{
               "Reserved", {{"__metadata__", DType::kU8, {}}}, {}, "cannot name a tensor"},
           BadDeclaration{
               "Nul", {{std::string("a\0", 2), DType::kU8, {}}}, {}, "cannot name a tensor"},
           BadDeclaration{"NotUtf8", {{"\xFF", DType::kU8, {}}}, {}, "is not valid UTF-8"},
           BadDeclaration{"MetadataNotUtf8", {}, {{"k", "\xC3"}}, "is not valid UTF-8"},
           BadDeclaration{
               "HalfAByte", {{"a", DType::kF4E2M1, {3}}}, {}, "not a whole number of bytes"},
           BadDeclaration{"Overflow",
                          {{"a", DType::kF64, {std::int64_t{1} << 60}}},
                          {},
                          "not a whole number of bytes"}),
    [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace dither
