#include "io/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_util.h"
#include "io/shard_index.h"
#include "io/test_files.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::TestWithParam;
using ::testing::Values;

/// A file that holds U8 scalars of these names.
std::string shard(const std::vector<std::string>& names) {
  std::string header = "{";
  for (std::size_t i = 0; i < names.size(); ++i) {
    header += (i > 0 ? ",\"" : "\"") + names[i] + R"(":{"dtype":"U8","shape":[],"data_offsets":[)" +
              std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  }
  return safetensors_bytes(header + "}", std::string("0123456789").substr(0, names.size()));
}

TEST(Checkpoint, ReadsShardsAsOneSource) {
  const TempFolder folder;
  folder.write("model-1.safetensors", shard({"b", "d"}));
  folder.write("model-2.safetensors", shard({"a", "c"}));
  folder.write(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":4},"weight_map":{"a":"model-2.safetensors",)"
      R"("b":"model-1.safetensors","c":"model-2.safetensors","d":"model-1.safetensors"}})");
  const auto source = open_component(folder.path(), kTransformersStem);
  std::string names;
  for (const TensorInfo& info : source->tensors()) names += info.name;
  EXPECT_EQ(names, "abcd");
  EXPECT_THAT(source->find("c")->file, HasSubstr("model-2.safetensors"));
  EXPECT_EQ(source->find("e"), nullptr);
  EXPECT_EQ(*source->read("c").data<char>(), '1');
  EXPECT_EQ(*source->read("b").data<char>(), '0');
  source->release(source->read("d"));
  EXPECT_EQ(*source->read("d").data<char>(), '1');
  const Error missing = error_of([&] { source->read("e"); });
  EXPECT_EQ(missing.code(), ErrorCode::kNotFound);
  EXPECT_THAT(missing.what(), HasSubstr("model.safetensors.index.json: no tensor 'e'"));
}

TEST(Checkpoint, PrefersTheSingleFile) {
  const TempFolder folder;
  folder.write("model.safetensors", shard({"a"}));
  folder.write("model.safetensors.index.json",
               R"({"weight_map": {"a": "model-00001-of-00001.safetensors"}})");
  EXPECT_NE(open_component(folder.path(), "model")->find("a"), nullptr);
}

TEST(Checkpoint, RefusesABrokenIndexEvenBesideASingleFile) {
  const TempFolder folder;
  folder.write("model.safetensors", shard({"a"}));
  folder.write("model.safetensors.index.json", "{}");
  EXPECT_THAT(error_of([&] { open_component(folder.path(), "model"); }).what(),
              HasSubstr("model.safetensors.index.json: 'weight_map' must be an object"));
}

TEST(Checkpoint, SaysWhatItLookedFor) {
  const TempFolder folder;
  const auto look = [&] { open_component(folder.path(), kDiffusersStem); };
  EXPECT_THAT(error_of(look).what(),
              AllOf(HasSubstr("looked for diffusion_pytorch_model.safetensors and "
                              "diffusion_pytorch_model.safetensors.index.json"),
                    HasSubstr("it holds no safetensors files")));
  folder.write("diffusion_pytorch_model.fp16.safetensors", shard({"a"}));
  const Error error = error_of(look);
  EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  EXPECT_THAT(error.what(), HasSubstr("it holds diffusion_pytorch_model.fp16.safetensors"));
  EXPECT_THAT(error_of([&] { open_component(folder.path() / "vae", "model"); }).what(),
              HasSubstr("vae: no such folder"));
  EXPECT_EQ(error_of([&] { open_checkpoint(folder.path() / "weights.bin"); }).code(),
            ErrorCode::kUnsupported);
}

struct LyingIndex {
  const char* name;
  const char* index;
  const char* message;
  ErrorCode code = ErrorCode::kDataLoss;
};
class ShardIndexRefuses : public TestWithParam<LyingIndex> {};

// Beside the index lie s1 with the tensors a and b, and s2 with c.
TEST_P(ShardIndexRefuses, LyingIndex) {
  const TempFolder folder;
  folder.write("s1.safetensors", shard({"a", "b"}));
  folder.write("s2.safetensors", shard({"c"}));
  const auto index = folder.write("model.safetensors.index.json", GetParam().index);
  const Error error = error_of([&] { open_checkpoint(index); });
  EXPECT_EQ(error.code(), GetParam().code) << error.what();
  EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
}
INSTANTIATE_TEST_SUITE_P(
    Table, ShardIndexRefuses,
    Values(
        LyingIndex{"NotJson", "{", "not valid JSON at byte 1"},
        LyingIndex{"NotAnObject", "[]", "must be a JSON object, is array"},
        LyingIndex{"NoMap", R"({"metadata":{}})", "'weight_map' must be an object"},
        LyingIndex{"EmptyMap", R"({"weight_map":{}})", "'weight_map' must be an object"},
        LyingIndex{"ArrayMap", R"({"weight_map":["a"]})", "'weight_map' must be an object"},
        LyingIndex{"DuplicateTensor",
                   R"({"weight_map":{"a":"s1.safetensors","a":"s2.safetensors"}})",
                   "key 'a' stands twice"},
        LyingIndex{"Number", R"({"weight_map":{"a":1}})", "maps tensor 'a' to number"},
        LyingIndex{"Traversal", R"({"weight_map":{"a":"../s1.safetensors"}})",
                   "maps tensor 'a' to '../s1.safetensors', which is not a plain file name"},
        LyingIndex{"Absolute", R"({"weight_map":{"a":"/etc/passwd"}})", "not a plain file name"},
        LyingIndex{"Parent", R"({"weight_map":{"a":".."}})", "not a plain file name"},
        LyingIndex{"EmptyName", R"({"weight_map":{"a":""}})", "not a plain file name"},
        LyingIndex{"NulName", R"({"weight_map":{"a":"s1\u0000"}})", "not a plain file name"},
        LyingIndex{"MissingShard", R"({"weight_map":{"a":"s3.safetensors"}})", "s3.safetensors",
                   ErrorCode::kNotFound},
        LyingIndex{"MissingTensor",
                   R"({"weight_map":{"a":"s1.safetensors","b":"s1.safetensors",)"
                   R"("c":"s2.safetensors","d":"s2.safetensors"}})",
                   "1 tensors disagree with the shards: s2.safetensors lacks 'd'"},
        LyingIndex{"SurplusTensor", R"({"weight_map":{"a":"s1.safetensors","c":"s2.safetensors"}})",
                   "s1.safetensors holds 'b', which the index does not list"},
        LyingIndex{"WrongShard",
                   R"({"weight_map":{"a":"s2.safetensors","b":"s1.safetensors",)"
                   R"("c":"s2.safetensors"}})",
                   "2 tensors disagree with the shards: s2.safetensors lacks 'a'; s1.safetensors "
                   "holds 'a', which the index places in s2.safetensors"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Checkpoint, ListsAtMostTwentyDisagreements) {
  const TempFolder folder;
  folder.write("s.safetensors", shard({"a"}));
  std::string map = R"("a":"s.safetensors")";
  for (int i = 0; i < 500; ++i) map += ",\"t" + std::to_string(i) + R"(":"s.safetensors")";
  const auto index = folder.write("model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  const std::string message = error_of([&] { open_checkpoint(index); }).what();
  EXPECT_THAT(message, HasSubstr("500 tensors disagree"));
  EXPECT_LT(message.size(), 1000U);
}

}  // namespace
}  // namespace dither
